"""The client of a retrieval server: `HttpRetriever` stands where an opened index does."""

from retrieval.client.async_retriever import AsyncHttpRetriever
from retrieval.client.circuit import CircuitOpen
from retrieval.client.http_retriever import HttpRetriever

__all__ = ["AsyncHttpRetriever", "CircuitOpen", "HttpRetriever"]

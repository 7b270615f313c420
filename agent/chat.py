"""A model's chat template, appended to turn by turn.

A conversation is never rendered again once the policy has spoken: its sampled ids stay as they are, and what follows
them is rendered as a delta. The template writes a short conversation with a marker for what was sampled, then the new
messages; the text after the marker (the end of the turn, the messages, the next turn's opening) is encoded once and
appended. Every delta begins with the control token that ends a turn, which is left out where the policy sampled it. So
outside of the sampled spans the ids are those of the whole conversation rendered at once, also for templates that would
rewrite earlier turns (Qwen3's takes their thoughts out).
"""

import json
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from agent.protocol_table import AgentProtocol
from agent.tools import TOOL_SCHEMAS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

_SAMPLED = "what-the-policy-sampled"
_PROBE = "what-a-tool-returned"
_USER: Message = {"role": "user", "content": "a question"}
_ASSISTANT: Message = {"role": "assistant", "content": _SAMPLED}

_TOOLS_IN_WORDS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\n<tools>\n{schemas}\n</tools>\n\nFor each function call, return a "
    "json object with function name and arguments within {opening}{closing} XML tags:\n{opening}\n"
    '{{"name": <function-name>, "arguments": <args-json-object>}}\n{closing}'
)
"""How Hermes models are told of their tools, for templates that have no place for them."""


class ChatTemplate:
    """A tokenizer's template in the use of one protocol of JSON calls."""

    def __init__(self, protocol: AgentProtocol, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raises ValueError where the tokenizer has no template, or one that cannot carry such a conversation."""
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                f"protocol {protocol.name!r} calls tools through the chat template, and this tokenizer has none: take "
                "a chat model, set the tokenizer's chat_template, or take a protocol of tags, such as 'waymark'"
            )
        assert protocol.tool_call is not None
        self._protocol = protocol
        self._tokenizer = ref(tokenizer)  # the table below would keep it alive otherwise
        self._options = dict(protocol.template_options)
        self._schemas = [TOOL_SCHEMAS[tool] for tool in protocol.tools]
        self._takes_tools = self._shows_the_schemas()
        self.takes_tool_role = self._renders([_USER, _ASSISTANT, {"role": "tool", "content": _PROBE}], _PROBE)
        """Whether results travel as messages of role tool; the template would drop or refuse them otherwise."""
        deltas = [self.tool_results([_PROBE], last_id=None), self.user_message(_PROBE, last_id=None)]
        added = getattr(tokenizer, "added_tokens_decoder", {})
        for delta in deltas:
            if delta[0] not in added:
                raise ValueError(
                    f"the chat template ends an assistant's turn with {tokenizer.decode(list(delta[:4]))!r}, which is "
                    "no control token of this tokenizer: where a sampled turn ends could not be told exactly"
                )
        self.markers: frozenset[int] = frozenset(
            i for delta in deltas for i in delta if i in added and (added[i].special or i == delta[0])
        )
        """Ids that end and open turns. A policy that samples one before the end of its own turn forges another's."""

    def prompt(self, text: str) -> tuple[int, ...]:
        """Ids of the user's message with the tools' schemas, up to where the policy begins to speak."""
        user = {"role": "user", "content": text}
        if self._takes_tools:
            return self._encode(self._render([user]))
        opening, closing = self._protocol.tool_call or ("", "")
        schemas = "\n".join(json.dumps(schema) for schema in self._schemas)
        told = _TOOLS_IN_WORDS.format(schemas=schemas, opening=opening, closing=closing)
        system = {"role": "system", "content": told}
        if self._renders([system, user], told):
            return self._encode(self._render([system, user]))
        return self._encode(self._render([{"role": "user", "content": f"{told}\n\n{text}"}]))

    def tool_results(self, contents: "list[str]", *, last_id: int | None) -> tuple[int, ...]:
        """Ids of one tool message for each result, after a turn whose last sampled id is `last_id`.

        A template without a role for tools gets them in one user message, each in the protocol's observation.
        """
        if self.takes_tool_role:
            return self._delta([{"role": "tool", "content": content} for content in contents], last_id)
        wrapped = (self._protocol.observation.format(passages=content).strip() for content in contents)
        return self._delta([{"role": "user", "content": "\n".join(wrapped)}], last_id)

    def user_message(self, content: str, *, last_id: int | None) -> tuple[int, ...]:
        """Ids of a further message of the user, after a turn whose last sampled id is `last_id`."""
        return self._delta([{"role": "user", "content": content}], last_id)

    def _delta(self, messages: list[Message], last_id: int | None) -> tuple[int, ...]:
        ids = self._encode(self._after_sampled(messages))
        return ids[1:] if last_id == ids[0] else ids

    def _after_sampled(self, messages: list[Message]) -> str:
        from jinja2.exceptions import TemplateError

        try:
            _, found, after = self._render([_USER, _ASSISTANT, *messages]).partition(_SAMPLED)
        except TemplateError as error:
            raise ValueError(f"the chat template refuses a conversation of plain messages: {error}") from error
        if not found:
            raise ValueError("the chat template leaves out what the assistant says; it cannot carry an episode")
        return after

    def _shows_the_schemas(self) -> bool:
        return all(
            self._renders([_USER], schema["function"]["parameters"]["properties"][name]["description"])
            for schema in self._schemas
            for name in schema["function"]["parameters"]["properties"]
        )

    def _renders(self, messages: list[Message], text: str) -> bool:
        """True if the template takes these messages, and the text comes out."""
        from jinja2.exceptions import TemplateError

        try:
            return text in self._render(messages)
        except TemplateError:
            return False

    def _render(self, messages: list[Message]) -> str:
        options: dict[str, Any] = {"tools": self._schemas, **self._options}
        return str(self._of().apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._of().encode(text, add_special_tokens=False))

    def _of(self) -> "PreTrainedTokenizerBase":
        tokenizer = self._tokenizer()
        assert tokenizer is not None, "whoever uses the template holds its tokenizer"
        return tokenizer


_TEMPLATES: "WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[str, ...], ChatTemplate]]" = WeakKeyDictionary()


def chat_template(protocol: AgentProtocol, tokenizer: "PreTrainedTokenizerBase") -> ChatTemplate:
    """The template of a tokenizer for a protocol; made once, then reused.

    Raises:
        ValueError: the tokenizer has none, or one that cannot carry such a conversation.
    """
    made = _TEMPLATES.setdefault(tokenizer, {})
    key = (repr(protocol), str(getattr(tokenizer, "chat_template", None)), str(len(tokenizer)))
    if key not in made:
        made[key] = ChatTemplate(protocol, tokenizer)
    return made[key]

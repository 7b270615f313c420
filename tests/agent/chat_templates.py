"""Chat templates in the style of Qwen2.5, Qwen3, Llama 3 and 3.1, with a tokenizer for each.

They are short, and differ where the real ones do: how tools are told, which role their results have, whether results
stand together in one message, and what happens to the thoughts of earlier turns.
"""

from dataclasses import dataclass
from pathlib import Path

import trl
from transformers import PreTrainedTokenizerFast

from tests.agent.tokenizers_for_tests import chat_tokenizer

QWEN25 = """\
{{- '<|im_start|>system\\nYou are a helpful assistant.' }}
{%- if tools %}
    {{- '\\n\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
    {{- '\\n</tools>\\nCall one as <tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

QWEN3 = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_question=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last_question = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_question and (loop.last or thought) %}
            {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content + '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""

LLAMA31 = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'tool' or message.role == 'ipython' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + (message.content | tojson) + '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
        {%- if loop.first and tools %}
            {{- 'Given the following functions, please respond with a JSON for a function call.\\n\\n' }}
            {%- for tool in tools %}{{ (tool | tojson(indent=4)) + '\\n\\n' }}{% endfor %}
        {%- endif %}
        {{- message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ('system', 'user', 'assistant') %}
        {{- raise_exception('roles are system, user and assistant') }}
    {%- endif %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

TAGS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
TEXTS = [
    "Who founded Velmora? Velmora was founded by Tarnek Osmi, who was born in Lona. Call the tools to find out.",
    '{"name": "search", "arguments": {"query": "who founded Velmora"}} <think> find the founder first </think>',
    '{"type": "function", "function": {"name": "open", "description": "Read a document of the corpus."}}',
]


@dataclass(frozen=True)
class Chat:
    """A template's text, its control tokens, how it opens the assistant's turn and how it ends a turn."""

    name: str
    template: str
    opening: str
    end_of_turn: str
    control: tuple[str, ...]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A byte-level BPE trained on a few sentences, with this template."""
        return chat_tokenizer(TEXTS, self.template, control=list(self.control), end_of_turn=self.end_of_turn, tags=TAGS)


def _chatml(name: str, template: str) -> Chat:
    return Chat(name, template, "<|im_start|>assistant\n", "<|im_end|>", ("<|im_start|>", "<|im_end|>"))


def _llama(name: str, template: str) -> Chat:
    control = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return Chat(name, template, "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", control)


def _real(name: str) -> str:
    """The model's own template, of which TRL has a copy."""
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


CHATS = (
    _chatml("qwen2.5-style", QWEN25),
    _chatml("qwen3-style", QWEN3),
    _llama("llama3.1-style", LLAMA31),
    _llama("llama3-style", LLAMA3),
    _chatml("qwen2.5", _real("qwen2_5")),
    _chatml("qwen3", _real("qwen3")),
    _llama("llama3", _real("llama3")),
    _llama("llama3.1", _real("llama3_1")),
)

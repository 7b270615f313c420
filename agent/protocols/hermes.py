"""Tool calls in JSON through the model's own chat template, as Qwen and Hermes models are trained to make them.

    <tool_call>
    {"name": "search", "arguments": {"query": "founder of Velmora"}}
    </tool_call><|im_end|>

The template carries the tools' schemas and the results; a turn may make several calls, and a turn without one is the
last and holds the answer. The prompt says how to call, because some templates (Llama's) tell it in other words.
"""

from dataclasses import replace

from agent.protocol import AgentProtocol

HERMES = AgentProtocol(
    name="hermes",
    prompt=(
        "Answer the question. Call the tools to find out what you do not know: write each call as "
        '<tool_call>{{"name": "search", "arguments": {{"query": "..."}}}}</tool_call>; one turn may hold several. '
        "When you know the answer, give it in a few words between <answer> and </answer>, and cite the passages that "
        "it stands in by number: <answer>Lima [2]</answer>.\nQuestion: {question}"
    ),
    tool_call=("<tool_call>", "</tool_call>"),
    information=("<tool_response>", "</tool_response>"),
    passage="[{number}] {title}: {text}\n",
    observation="<tool_response>\n{passages}\n</tool_response>",
    nothing_found="nothing found",
    repeated="[{number}] {title}: as above\n",
    one_line=True,
    parallel=True,
    numbers="trajectory",
    citations=True,
    bare_answer=True,
    on_invalid="correct",
    correction=(
        'Invalid: {error}. Call a tool as <tool_call>{"name": "search", "arguments": {"query": "..."}}</tool_call>, or '
        "answer as <answer>Lima [2]</answer>."
    ),
    deviations=(
        "what the policy sampled stays in the context as it is: a template that takes thoughts out of earlier turns "
        "(Qwen3's) would show them no longer",
        "tags and special tokens in documents are made harmless",
    ),
)

HERMES_OPEN = replace(HERMES, name="hermes_open", tools=("search", "open"))
"""With `open`: the template lists its schema beside that of `search`."""

"""Waymark's own protocol: a thought, then a search, or an answer that cites passages by number.

    <think>I need the founder first</think><search>founder of Velmora</search>
    <information>[1] Velmora: Velmora was founded by Tarnek Osmi.</information>
    <think>found</think><answer>Tarnek Osmi [1]</answer>

A passage keeps its number for the whole trajectory, so a citation always means the same text. The prompt is short on
purpose: small policies trained from nothing read it at every step.
"""

from agent.protocol import AgentProtocol

WAYMARK = AgentProtocol(
    name="waymark",
    prompt="<think>plan</think><search>query</search> or <answer>text [1]</answer>\n{question}\n",
    passage="[{number}] {title}: {text}\n",
    observation="\n<information>{passages}</information>\n",
    nothing_found="nothing found",
    one_line=True,
    numbers="trajectory",
    citations=True,
    on_invalid="correct",
    correction="\ninvalid: use <search>query</search> or <answer>text [1]</answer>\n",
)

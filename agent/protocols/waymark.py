"""Waymark's own protocol: a thought, then a search, or an answer that cites passages by number.

    <think>I need the founder first</think><search>founder of Velmora</search>
    <information>[1] Velmora: Velmora was founded by Tarnek Osmi.</information>
    <think>found</think><answer>Tarnek Osmi [1]</answer>

A search may hold several queries, one a line. A passage keeps its number for the whole trajectory, so a citation always
means the same text. The prompt is short on purpose: small policies trained from nothing read it at every step.
"""

from dataclasses import replace

from agent.protocol import AgentProtocol

WAYMARK = AgentProtocol(
    name="waymark",
    prompt="<think>plan</think><search>query</search> or <answer>text [1]</answer>\n{question}\n",
    passage="[{number}] {title}: {text}\n",
    observation="\n<information>{passages}</information>\n",
    nothing_found="nothing found",
    one_line=True,
    parallel=True,
    numbers="trajectory",
    citations=True,
    on_invalid="correct",
    correction="\ninvalid: use <search>query</search> or <answer>text [1]</answer>\n",
)

WAYMARK_OPEN = replace(
    WAYMARK,
    name="waymark_open",
    tools=("search", "open"),
    prompt=WAYMARK.prompt.replace(" or <answer>", " or <open>title | 2</open> or <answer>"),
    correction=WAYMARK.correction.replace(" or <answer>", " or <open>title | 2</open> or <answer>"),
)
"""With `open`: `<open>Velmora</open>` reads the first window of a document, `<open>Velmora | 2</open>` the second."""

WAYMARK_STATING = replace(
    WAYMARK,
    name="waymark_stating",
    judge=("<judge>", "</judge>"),
    goal=("<goal>", "</goal>"),
    reflect=("<reflect>", "</reflect>"),
    prompt="<judge>yes or no</judge><reflect>true or false</reflect><goal>what for</goal>" + WAYMARK.prompt,
)
"""With statements before each action: is what was shown enough to answer, did it meet the last goal, what is the goal
of this search. They are said after the first observation, the goal with every search.

    <judge>no</judge><reflect>true</reflect><goal>birthplace</goal><think>next</think><search>Tarnek Osmi born</search>
"""

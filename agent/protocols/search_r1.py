"""Search-R1's conventions, byte for byte (github.com/PeterGriffinJin/Search-R1; arXiv 2503.09516).

Published policies were trained on exactly these bytes. `deviations` says where Waymark differs; ordinary passages and
completions do not notice.
"""

from dataclasses import replace

from agent.protocol import AgentProtocol

SEARCH_R1 = AgentProtocol(
    name="search_r1",
    prompt=(
        "Answer the given question. "
        "You must conduct reasoning inside <think> and </think> first every time you get new information. "
        "After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
        "</search> and it will return the top searched results between <information> and </information>. "
        "You can search as many times as your want. "
        "If you find no further external knowledge needed, you can directly provide the answer inside <answer> and "
        "</answer>, without detailed illustrations. For example, <answer> Beijing </answer>. Question: {question}\n"
    ),
    passage="Doc {number}(Title: {title}) {text}\n",
    observation="\n\n<information>{passages}</information>\n\n",
    numbers="turn",
    empty_answer=True,
    on_invalid="correct",
    correction=(
        "\nMy previous action is invalid. "
        "If I want to search, I should put the query between <search> and </search>. "
        "If I want to give the final answer, I should put the answer between <answer> and </answer>. "
        "Let me try again.\n"
    ),
    deviations=(
        "tags and special tokens in documents are made harmless",
        "an empty query is an invalid action",
        "an action that writes the environment's own tags is invalid",
        "a text that ends without an action ends the episode as no_answer",
    ),
)

SEARCH_R1_OPEN = replace(
    SEARCH_R1,
    name="search_r1_open",
    tools=("search", "open"),
    parallel=True,
    prompt=SEARCH_R1.prompt.replace(
        "You can search as many times",
        "You can search for several things at once, one query a line. You can read a whole document by <open> title "
        "</open>, and its second part by <open> title | 2 </open>. You can search as many times",
    ),
    correction=SEARCH_R1.correction.replace(
        "If I want to give",
        "If I want to read a document, I should put its title between <open> and </open>. If I want to give",
    ),
    nothing_found="nothing found",
    deviations=(*SEARCH_R1.deviations, "documents can be opened, and one turn can hold several queries"),
)
"""Search-R1's conventions with `open` and several queries in a turn. No published policy was trained on this prompt."""

"""Places: towns, regions, rivers and monuments."""

from envs.world_schema import EntityType, relation

PLACES = (
    EntityType(
        name="town", weight=14, naming="before", nouns=("Port", "Fort", "Mount", "Upper", "Lower"), generic="the town"
    ),
    EntityType(name="region", weight=6, naming="word", generic="the region"),
    EntityType(
        name="river", weight=6, naming="after", nouns=("River", "Brook", "Creek", "Rapids"), generic="the stream"
    ),
    EntityType(
        name="monument",
        weight=7,
        naming="after",
        nouns=("Tower", "Pavilion", "Rotunda", "Arcade"),
        generic="the landmark",
    ),
)

PLACE_RELATIONS = (
    relation(
        "mayor",
        "town",
        "person",
        say="""{s} has {o} as mayor | {s} is governed by {o} | {s} chose {o} to lead the council
            | {s} gave its chain of office to {o} | {s} is run by {o} | {s} entrusts its seal to {o}""",
        phrase="""the mayor of {s} | the person who governs {s} | the one chosen to lead the council of {s}
            | the bearer of the chain of office in {s} | the official who runs {s} | the keeper of the seal of {s}""",
        ask="Who is the mayor of {s}? | Who governs {s}? | Who was chosen to lead the council of {s}?",
    ),
    relation(
        "town_region",
        "town",
        "region",
        say="""{s} lies in {o} | {s} belongs to {o} | {s} is part of {o} | {s} pays its taxes to {o}
            | {s} is found within {o} | {s} sits inside the borders of {o}""",
        phrase="""the region in which {s} lies | the province {s} belongs to | the district that {s} is part of
            | the territory to which {s} pays its taxes | the area where {s} is found
            | the land with borders around {s}""",
        ask="Which province includes {s}? | Which province does {s} belong to? | Where is {s} found?",
    ),
    relation(
        "town_river",
        "town",
        "river",
        say="""{s} stands on {o} | {s} is crossed by {o} | {s} draws its water from {o} | {s} grew up along {o}
            | {s} spreads over both banks of {o} | {s} was often flooded by {o}""",
        phrase="""the river on which {s} stands | the stream that crosses {s} | the source of the water for {s}
            | the waterway along which {s} grew up | the current between whose banks lies {s}
            | the flow that often flooded {s}""",
        ask="Which waterway passes {s}? | Which stream crosses {s}? | From where does {s} draw its water?",
    ),
    relation(
        "population",
        "town",
        "count",
        unit="thousand",
        say="""{s} has {o} inhabitants | {s} is home to {o} people | {s} counted {o} residents
            | {s} has a population of {o} | {s} houses {o} citizens | {s} shelters {o} souls""",
        phrase="""the number of inhabitants of {s} | the count of people who call {s} home
            | the total of residents in {s}
            | the population of {s} | the sum of citizens housed by {s} | the tally of souls in {s}""",
        ask="How many inhabitants does {s} have? | What is the population of {s}? | How many people call {s} home?",
        compare="""Which has more inhabitants, {a} or {b}? | Which of {a} and {b} is home to more people?
            | Between {a} and {b}, where is the population larger? | Of {a} and {b}, which houses more citizens?
            | Which counted the greater number of residents: {a} or {b}? | Where do more souls live, {a} or {b}?""",
    ),
    relation(
        "explorer",
        "region",
        "person",
        say="""{s} was explored by {o} | {s} was first mapped by {o} | {s} was discovered by {o}
            | {s} was opened up by {o} | {s} was surveyed by {o} | {s} owes its first chart to {o}""",
        phrase="""the explorer of {s} | the person who first mapped {s} | the discoverer of {s}
            | the pioneer who opened up {s} | the one who surveyed {s} | the author of the first chart of {s}""",
        ask="Who explored {s}? | Who first mapped {s}? | By whom was {s} discovered?",
    ),
    relation(
        "market",
        "region",
        "town",
        say="""{s} trades mostly with {o} | {s} sells its grain in {o} | {s} sends its harvest to {o}
            | {s} buys its goods from {o} | {s} has its chief market in {o} | {s} barters with {o}""",
        phrase="""the trading partner of {s} | the place where {s} sells its grain | the goal of the harvest of {s}
            | the town from which {s} buys its goods | the chief market for {s} | the community {s} barters with""",
        ask="What is the marketplace of {s}? | Where does {s} sell its grain?",
    ),
    relation(
        "area",
        "region",
        "count",
        unit="leagues",
        say="""{s} covers {o} | {s} has an area of {o} | {s} stretches over {o} | {s} measures {o} in size
            | {s} extends across {o} | {s} takes up {o}""",
        phrase="""the ground covered by {s} | the area of {s} | the stretch of {s} | the size that {s} measures
            | the extent of {s} | the space taken up by {s}""",
        ask="How much ground does {s} cover? | What is the area of {s}? | What size does {s} measure?",
        compare="""Which covers more ground, {a} or {b}? | Which of {a} and {b} has the bigger area?
            | Between {a} and {b}, which is greater in size? | Of {a} and {b}, which stretches further?
            | Which takes up more space: {a} or {b}? | Which has the wider extent, {a} or {b}?""",
    ),
    relation(
        "spring",
        "river",
        "region",
        say="""{s} rises in {o} | {s} has its springs in {o} | {s} begins its course in {o} | {s} wells up in {o}
            | {s} starts as a trickle in {o} | {s} is fed by the snow of {o}""",
        phrase="""the region where {s} rises | the land that holds the springs of {s}
            | the province in which {s} begins its course | the district where {s} wells up
            | the territory that sees {s} as a trickle | the area whose snow feeds {s}""",
        ask="Where does {s} rise? | In which region are the springs of {s}? | Where does {s} begin its course?",
    ),
    relation(
        "charting",
        "river",
        "expedition",
        say="""{s} was charted by {o} | {s} was sounded by {o} | {s} was followed to its end by {o}
            | {s} was made navigable by {o} | {s} was drawn on paper by {o} | {s} was sketched during {o}""",
        phrase="""the expedition that charted {s} | the mission that sounded {s} | the journey to the end of {s}
            | the campaign that made {s} navigable | the undertaking that drew {s} on paper
            | the trip during which {s} was sketched""",
        ask="Which mission documented {s}? | Which expedition charted {s}? | During which trip was {s} sketched?",
    ),
    relation(
        "length",
        "river",
        "count",
        unit="miles",
        say="""{s} is {o} long | {s} runs for {o} | {s} flows over {o} | {s} winds through {o}
            | {s} has a length of {o} | {s} needs {o} to reach the sea""",
        phrase="""the length of {s} | the distance that {s} runs | the way {s} flows | the miles that {s} winds through
            | the reach of {s} | the route of {s} to the sea in miles""",
        ask="How long is {s}? | For what distance does {s} run? | How many miles does {s} flow?",
        compare="""Which is longer, {a} or {b}? | Which of {a} and {b} runs for the greater distance?
            | Between {a} and {b}, which flows over more miles? | Of {a} and {b}, which has the larger reach?
            | Which winds further: {a} or {b}? | Which needs more miles to the sea, {a} or {b}?""",
    ),
    relation(
        "architect",
        "monument",
        "person",
        say="""{s} was designed by {o} | {s} was built to plans by {o} | {s} is the work of {o}
            | {s} was conceived by {o} | {s} follows drawings by {o} | {s} is a creation of {o}""",
        phrase="""the designer of {s} | the person whose plans shaped {s} | the architect of {s}
            | the one who conceived {s} | the artist whose drawings {s} follows | the creator of {s}""",
        ask="Who designed {s}? | Whose plans shaped {s}? | Who was the architect of {s}?",
    ),
    relation(
        "location",
        "monument",
        "town",
        say="""{s} rises above the roofs of {o} | {s} can be visited in {o} | {s} stands in {o}
            | {s} adorns the main square of {o} | {s} draws crowds to {o} | {s} faces the old gate of {o}""",
        phrase="""the town where {s} stands | the place to visit {s} | the settlement whose roofs {s} overlooks
            | the community whose main square shows {s} | the spot to which {s} draws crowds
            | the town whose gate {s} faces""",
        ask="In which town does {s} stand? | Where can {s} be visited? | Which main square does {s} adorn?",
    ),
    relation(
        "caretaker",
        "monument",
        "society",
        say="""{s} is cared for by {o} | {s} is maintained by {o} | {s} was handed over to {o}
            | {s} is kept in repair by {o} | {s} is entrusted to {o} | {s} is cleaned by {o}""",
        phrase="""the group that cares for {s} | the association that maintains {s} | the body {s} was handed over to
            | the union that keeps {s} in repair | the club entrusted with {s} | the volunteers who clean {s}""",
        ask="Who cares for {s}? | Which association maintains {s}? | To which body was {s} handed over?",
    ),
    relation(
        "completion_year",
        "monument",
        "year",
        say="""{s} was completed in {o} | {s} was finished in {o} | {s} opened its doors in {o}
            | {s} received its last stone in {o} | {s} was unveiled in {o} | {s} was inaugurated in {o}""",
        phrase="""the year {s} was completed | the year that saw {s} finished | the year {s} opened its doors
            | the time of the last stone of {s} | the year when {s} was unveiled | the inauguration year of {s}""",
        ask="When was {s} completed? | In what year was {s} finished? | In which year did {s} open its doors?",
        compare="""Which was completed earlier, {a} or {b}? | Which of {a} and {b} was finished first?
            | Between {a} and {b}, which opened its doors sooner? | Of {a} and {b}, which was unveiled before?
            | Which received its last stone longer ago: {a} or {b}? | Which has the older inauguration, {a} or {b}?""",
    ),
)

"""What people make and keep: institutes, companies, books and ships."""

from envs.world_schema import EntityType, relation

THINGS = (
    EntityType(
        name="institute",
        weight=7,
        naming="after",
        nouns=("Institute", "College", "Academy", "Conservatory"),
        generic="the school",
    ),
    EntityType(
        name="company",
        weight=7,
        naming="after",
        nouns=("Foundry", "Combine", "Partners", "Holdings"),
        generic="the firm",
    ),
    EntityType(
        name="book", weight=6, naming="after", nouns=("Chronicle", "Ballad", "Elegy", "Saga"), generic="the book"
    ),
    EntityType(
        name="ship", weight=6, naming="after", nouns=("Falcon", "Heron", "Lantern", "Comet"), generic="the ship"
    ),
)

THING_RELATIONS = (
    relation(
        "founder",
        "institute",
        "person",
        say="""{s} was founded by {o} | {s} was established by {o} | {s} was set up by {o}
            | {s} was called to life by {o} | {s} grew out of evening classes held by {o} | {s} goes back to {o}""",
        phrase="""the founder of {s} | the person who established {s} | the one who set up {s}
            | the initiator who called {s} to life | the figure whose classes grew into {s}
            | the individual {s} goes back to""",
        ask="Who founded {s}? | Who established {s}? | By whom was {s} set up?",
    ),
    relation(
        "seat",
        "institute",
        "town",
        say="""{s} has its campus in {o} | {s} teaches in {o} | {s} is based in {o} | {s} has its rooms in {o}
            | {s} keeps its library in {o} | {s} welcomes scholars to {o}""",
        phrase="""the town with the campus of {s} | the place where {s} teaches | the base of {s}
            | the settlement with the rooms of {s} | the community where {s} keeps its library
            | the spot to which {s} welcomes scholars""",
        ask="Where is the campus of {s}? | In which town does {s} teach? | In what place is {s} based?",
    ),
    relation(
        "sponsor",
        "institute",
        "company",
        say="""{s} is paid for by {o} | {s} is financed by {o} | {s} lives on grants from {o} | {s} is sponsored by {o}
            | {s} was endowed by {o} | {s} owes its budget to {o}""",
        phrase="""the firm that pays for {s} | the company that finances {s} | the concern whose grants {s} lives on
            | the sponsor of {s} | the business that endowed {s} | the enterprise behind the budget of {s}""",
        ask="Which firm pays for {s}? | Which company finances {s}? | Who is the sponsor of {s}?",
    ),
    relation(
        "institute_year",
        "institute",
        "year",
        say="""{s} was founded in {o} | {s} was established in {o} | {s} taught its first class in {o}
            | {s} received a licence in {o} | {s} goes back to the year {o} | {s} has existed since {o}""",
        phrase="""the year {s} was founded | the year when {s} was established | the time of the first class at {s}
            | the year that gave {s} a licence | the year {s} goes back to | the year since which {s} has existed""",
        ask="When was {s} founded? | In what year was {s} established? | In which year did {s} receive a licence?",
        compare="""Which was founded earlier, {a} or {b}? | Which of {a} and {b} is older?
            | Between {a} and {b}, which was established first? | Of {a} and {b}, which received a licence sooner?
            | Which taught a class before the other: {a} or {b}? | Which has existed longer, {a} or {b}?""",
    ),
    relation(
        "owner",
        "company",
        "person",
        say="""{s} is owned by {o} | {s} belongs to {o} | {s} is the property of {o} | {s} was inherited by {o}
            | {s} was bought by {o} | {s} is in the hands of {o}""",
        phrase="""the owner of {s} | the person to whom {s} belongs | the one whose property is {s} | the heir to {s}
            | the buyer of {s} | the proprietor whose hands hold {s}""",
        ask="Who owns {s}? | To whom does {s} belong? | By whom was {s} bought?",
    ),
    relation(
        "headquarters",
        "company",
        "town",
        say="""{s} has its headquarters in {o} | {s} is managed from {o} | {s} keeps its main office in {o}
            | {s} is registered in {o} | {s} moved its desks to {o} | {s} does its paperwork in {o}""",
        phrase="""the town with the headquarters of {s} | the place from which {s} is managed
            | the settlement with the main office of {s} | the community where {s} is registered
            | the spot to which {s} moved its desks | the town that sees the paperwork of {s}""",
        ask="Where are the headquarters of {s}? | From which town is {s} managed? | Where is the main office of {s}?",
    ),
    relation(
        "freighter",
        "company",
        "ship",
        say="""{s} moves its freight on {o} | {s} ships its goods with {o} | {s} loads its cargo onto {o}
            | {s} charters {o} | {s} exports by means of {o} | {s} insures {o}""",
        phrase="""the vessel that moves the freight of {s} | the craft with which {s} ships its goods
            | the boat onto which {s} loads its cargo | the hull that {s} charters | the export ship of {s}
            | the transport insured by {s}""",
        ask="What is the freighter of {s}? | With which craft does {s} ship its goods?",
    ),
    relation(
        "company_year",
        "company",
        "year",
        say="""{s} was started in {o} | {s} made its first sale in {o} | {s} opened for business in {o}
            | {s} printed its shares in {o} | {s} signed its first contract in {o} | {s} was incorporated in {o}""",
        phrase="""the year {s} was started | the year of the first sale by {s} | the year {s} opened for business
            | the time when {s} printed its shares | the year of the first contract of {s}
            | the incorporation year of {s}""",
        ask="When was {s} started? | In what year did {s} make its first sale? | When was {s} incorporated?",
        compare="""Which was started earlier, {a} or {b}? | Which of {a} and {b} opened for business first?
            | Between {a} and {b}, which made a sale sooner? | Of {a} and {b}, which was incorporated before?
            | Which printed its shares longer ago: {a} or {b}? | Which has the older contract, {a} or {b}?""",
    ),
    relation(
        "author",
        "book",
        "person",
        say="""{s} was written by {o} | {s} came from the pen of {o} | {s} was composed by {o}
            | {s} is the best known text of {o} | {s} was dictated by {o} | {s} made the name of {o}""",
        phrase="""the author of {s} | the writer whose pen gave us {s} | the person who composed {s}
            | the one whose best known text is {s} | the voice that dictated {s} | the poet made famous by {s}""",
        ask="Who wrote {s}? | From whose pen came {s}? | By whom was {s} composed?",
    ),
    relation(
        "publisher",
        "book",
        "company",
        say="""{s} was published by {o} | {s} was printed by {o} | {s} was brought out by {o}
            | {s} is distributed by {o} | {s} was edited at {o} | {s} appeared in the catalogue of {o}""",
        phrase="""the publisher of {s} | the firm that printed {s} | the house that brought out {s}
            | the business that distributes {s} | the company at which {s} was edited
            | the concern whose catalogue lists {s}""",
        ask="Who published {s}? | Which firm printed {s}? | By which house was {s} brought out?",
    ),
    relation(
        "setting",
        "book",
        "town",
        say="""{s} is set in {o} | {s} tells of a winter in {o} | {s} describes the streets of {o}
            | {s} has a plot that unfolds in {o} | {s} leads its heroes to {o} | {s} paints a picture of {o}""",
        phrase="""the setting of {s} | the town whose winter {s} tells of | the place with streets described in {s}
            | the scene on which the plot of {s} unfolds | the community to which {s} leads its heroes
            | the settlement painted in {s}""",
        ask="Where is {s} set? | Of which town does {s} tell? | Whose streets does {s} describe?",
    ),
    relation(
        "publication_year",
        "book",
        "year",
        say="""{s} was published in {o} | {s} appeared in {o} | {s} reached its readers in {o}
            | {s} was first printed in {o} | {s} came out in {o} | {s} was released in {o}""",
        phrase="""the year {s} was published | the year when {s} appeared | the year {s} reached its readers
            | the time of the first printing of {s} | the year {s} came out | the release year of {s}""",
        ask="When was {s} published? | In what year did {s} appear? | In which year was {s} released?",
        compare="""Which was published earlier, {a} or {b}? | Which of {a} and {b} appeared first?
            | Between {a} and {b}, which reached its readers sooner? | Of {a} and {b}, which was printed before?
            | Which was released longer ago: {a} or {b}? | Which is the older text, {a} or {b}?""",
    ),
    relation(
        "captain",
        "ship",
        "person",
        say="""{s} is steered by {o} | {s} sails with {o} as captain | {s} has {o} on the bridge
            | {s} is under the command of {o} | {s} obeys {o} at sea | {s} is skippered by {o}""",
        phrase="""the captain of {s} | the person who steers {s} | the one on the bridge of {s}
            | the sailor in command of {s} | the officer whom {s} obeys | the skipper of {s}""",
        ask="Who is the captain of {s}? | Who steers {s}? | Under whose command is {s}?",
    ),
    relation(
        "shipyard",
        "ship",
        "company",
        say="""{s} was built by {o} | {s} was assembled by {o} | {s} left the yard of {o} | {s} was ordered from {o}
            | {s} carries the mark of {o} | {s} was constructed by {o}""",
        phrase="""the builder of {s} | the firm that assembled {s} | the business whose yard {s} left
            | the company that {s} was ordered from | the concern whose mark {s} carries
            | the enterprise that constructed {s}""",
        ask="Who built {s}? | Which firm assembled {s}? | Whose yard did {s} leave?",
    ),
    relation(
        "home_port",
        "ship",
        "town",
        say="""{s} has its home port in {o} | {s} is moored in {o} | {s} returns each autumn to {o}
            | {s} flies the flag of {o} | {s} rests at the docks of {o} | {s} takes on supplies in {o}""",
        phrase="""the home port of {s} | the town where {s} is moored | the place to which {s} returns each autumn
            | the settlement whose flag {s} flies | the community with docks for {s}
            | the spot where {s} takes on supplies""",
        ask="Where is the home port of {s}? | In which town is {s} moored? | Whose flag does {s} fly?",
    ),
    relation(
        "launch_year",
        "ship",
        "year",
        say="""{s} was launched in {o} | {s} first touched water in {o} | {s} was christened in {o}
            | {s} made a maiden trip in {o} | {s} entered service in {o} | {s} slid down the ramp in {o}""",
        phrase="""the year {s} was launched | the year {s} first touched water | the year when {s} was christened
            | the time of the maiden trip of {s} | the year {s} entered service | the year {s} slid down the ramp""",
        ask="When was {s} launched? | In what year did {s} first touch water? | When did {s} enter service?",
        compare="""Which was launched earlier, {a} or {b}? | Which of {a} and {b} touched water first?
            | Between {a} and {b}, which was christened sooner? | Of {a} and {b}, which entered service before?
            | Which made a maiden trip longer ago: {a} or {b}? | Which is the older vessel, {a} or {b}?""",
    ),
)

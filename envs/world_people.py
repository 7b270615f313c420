"""Persons, and the groups that they form: societies and expeditions."""

from envs.world_schema import EntityType, relation

PEOPLE = (
    EntityType(name="person", weight=34, naming="person", generic=""),
    EntityType(
        name="society",
        weight=8,
        naming="after",
        nouns=("Society", "Guild", "Lodge", "Circle"),
        generic="the group",
    ),
    EntityType(
        name="expedition",
        weight=8,
        naming="after",
        nouns=("Expedition", "Voyage", "Trek", "Crossing"),
        generic="the journey",
    ),
)

PEOPLE_RELATIONS = (
    relation(
        "birthplace",
        "person",
        "town",
        say="""{s} was born in {o} | {s} hails from {o} | {s} is a native of {o} | {s} came into the world in {o}
            | {s} first saw daylight in {o} | {s} drew a first breath in {o}""",
        phrase="""the birthplace of {s} | the town {s} hails from | the native community of {s}
            | the place where {s} came into the world | the spot that saw the first daylight of {s}
            | the settlement where {s} drew a first breath""",
        ask="Where was {s} born? | Which town does {s} hail from? | In what place did {s} come into the world?",
    ),
    relation(
        "mentor",
        "person",
        "person",
        say="""{s} was taught by {o} | {s} trained under {o} | {s} was a pupil of {o} | {s} learned the craft from {o}
            | {s} had {o} as mentor | {s} took lessons with {o}""",
        phrase="""the teacher of {s} | the master who trained {s} | the tutor whose pupil was {s}
            | the one from whom {s} learned the craft | the mentor of {s} | the person who gave lessons to {s}""",
        ask="Who taught {s}? | Under whom did {s} train? | From whom did {s} learn the craft?",
    ),
    relation(
        "alma_mater",
        "person",
        "institute",
        say="""{s} studied at {o} | {s} graduated from {o} | {s} was educated at {o} | {s} took a degree at {o}
            | {s} attended lectures at {o} | {s} enrolled as a student at {o}""",
        phrase="""the school where {s} studied | the institution {s} graduated from | the place that educated {s}
            | the alma mater of {s} | the establishment whose lectures {s} attended
            | the seat of learning that enrolled {s}""",
        ask="Where did {s} study? | Which school did {s} graduate from? | At which institution was {s} educated?",
    ),
    relation(
        "employer",
        "person",
        "company",
        say="""{s} worked for {o} | {s} was employed by {o} | {s} held a post at {o} | {s} earned wages at {o}
            | {s} joined the staff of {o} | {s} was on the payroll of {o}""",
        phrase="""the firm {s} worked for | the employer of {s} | the company at which {s} held a post
            | the business that paid wages to {s} | the concern whose staff {s} joined
            | the enterprise with a payroll that named {s}""",
        ask="Whom did {s} work for? | Which firm employed {s}? | At which company did {s} hold a post?",
    ),
    relation(
        "birth_date",
        "person",
        "date",
        say="""{s} was born on {o} | {s} entered life on {o} | {s} has {o} as date of birth
            | {s} arrived as a baby on {o} | {s} was registered as newborn on {o} | {s} keeps the birthday of {o}""",
        phrase="""the date of birth of {s} | the day that {s} entered life | the birthday of {s}
            | the day that brought the baby {s} | the entry for {s} as newborn | the day {s} was born""",
        ask="When was {s} born? | On what day did {s} enter life? | What is the birthday of {s}?",
        compare="""Who was born earlier, {a} or {b}? | Which of {a} and {b} is older?
            | Between {a} and {b}, who entered life first? | Whose birthday comes before: that of {a} or that of {b}?
            | Of {a} and {b}, who is the elder? | Who has the more distant date of birth, {a} or {b}?""",
    ),
    relation(
        "patron",
        "society",
        "person",
        say="""{s} enjoys the patronage of {o} | {s} is supported by {o} | {s} counts on gifts from {o}
            | {s} relies on the protection of {o} | {s} gets its funds from {o} | {s} thanks {o} as benefactor""",
        phrase="""the patron of {s} | the supporter of {s} | the donor whose gifts reach {s} | the protector of {s}
            | the one who gives funds to {s} | the benefactor behind {s}""",
        ask="Who is the patron of {s}? | Who supports {s}? | On whose gifts does {s} count?",
    ),
    relation(
        "venue",
        "society",
        "monument",
        say="""{s} meets at {o} | {s} holds its sessions in {o} | {s} gathers in {o}
            | {s} assembles every month in {o} | {s} rents a hall in {o} | {s} spends its evenings at {o}""",
        phrase="""the building where {s} meets | the venue for the sessions of {s} | the site at which {s} gathers
            | the address where {s} assembles | the structure with a hall rented by {s} | the evening haunt of {s}""",
        ask="Where does {s} meet? | In which building does {s} hold its sessions? | At which site does {s} gather?",
    ),
    relation(
        "society_year",
        "society",
        "year",
        say="""{s} was formed in {o} | {s} came together in {o} | {s} dates from {o} | {s} was chartered in {o}
            | {s} began to admit people in {o} | {s} wrote its first rules in {o}""",
        phrase="""the year {s} was formed | the year that brought {s} together | the date of {s}
            | the charter year of {s} | the year when {s} began to admit people | the year of the first rules of {s}""",
        ask="When was {s} formed? | In what year did {s} come together? | Which year is the charter of {s} from?",
        compare="""Which was formed earlier, {a} or {b}? | Which of {a} and {b} has the older charter?
            | Between {a} and {b}, which came together first? | Whose first rules are more ancient: {a} or {b}?
            | Of {a} and {b}, which began to admit people sooner? | Which dates further back, {a} or {b}?""",
    ),
    relation(
        "members",
        "society",
        "persons",
        say="""{s} counts {o} as members | {s} lists {o} on its roll | {s} admitted {o} | {s} has {o} in its ranks
            | {s} gave a seat to {o} | {s} elected {o}""",
        phrase="""is a member of {s} | stands on the roll of {s} | was admitted to {s} | belongs to the ranks of {s}
            | has a seat in {s} | was elected by {s}""",
        ask="Who are the members of {s}? | Who belongs to {s}?",
    ),
    relation(
        "leader",
        "expedition",
        "person",
        say="""{s} was led by {o} | {s} followed the orders of {o} | {s} set off under {o} | {s} was commanded by {o}
            | {s} had {o} at its head | {s} trusted {o} as guide""",
        phrase="""the leader of {s} | the chief whose orders {s} followed | the person under whom {s} set off
            | the commander of {s} | the head of {s} | the guide trusted by {s}""",
        ask="Who led {s}? | Whose orders did {s} follow? | Under whom did {s} set off?",
    ),
    relation(
        "vessel",
        "expedition",
        "ship",
        say="""{s} sailed on {o} | {s} travelled aboard {o} | {s} crossed the sea in {o} | {s} embarked on {o}
            | {s} used {o} as transport | {s} was carried by {o}""",
        phrase="""the ship on which {s} sailed | the vessel {s} travelled aboard | the craft that took {s} over the sea
            | the boat on which {s} embarked | the transport used by {s} | the hull that carried {s}""",
        ask="On which ship did {s} sail? | Aboard which vessel did {s} travel? | Which boat carried {s}?",
    ),
    relation(
        "expedition_year",
        "expedition",
        "year",
        say="""{s} departed in {o} | {s} left home in {o} | {s} took place in {o} | {s} was begun in {o}
            | {s} started out in {o} | {s} was undertaken in {o}""",
        phrase="""the year {s} departed | the year when {s} left home | the year in which {s} took place
            | the beginning year of {s} | the year that saw {s} start out | the time when {s} was undertaken""",
        ask="When did {s} depart? | In what year did {s} leave home? | In which year did {s} take place?",
        compare="""Which departed earlier, {a} or {b}? | Which of {a} and {b} left home first?
            | Between {a} and {b}, which took place sooner? | Of {a} and {b}, which has the older beginning?
            | Which started out before the other: {a} or {b}? | Which was undertaken longer ago, {a} or {b}?""",
    ),
    relation(
        "crew",
        "expedition",
        "persons",
        say="""{s} took {o} along | {s} had {o} in the party | {s} was joined by {o} | {s} signed {o} as crew
            | {s} needed the help of {o} | {s} hired {o}""",
        phrase="""took part in {s} | was in the party of {s} | joined {s} | signed up as crew for {s} | gave help to {s}
            | was hired for {s}""",
        ask="Who took part in {s}? | Who joined {s}? | Who was in the party of {s}?",
    ),
)

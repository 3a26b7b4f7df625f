"""What to check first on a page: the probes of its incident and what explains them, causes first."""

from __future__ import annotations

from tocsin.model import ProbeSpec
from tocsin.runbooks.checks import BEGIN, END, part, replaced, table, unmarked
from tocsin.running.graph import Graph


def spec(name: str, *depends_on: str, incident: str = "realm", system: str = "wipe") -> ProbeSpec:
    return ProbeSpec(name, "http", system, incident, None, depends_on=depends_on)


SPECS = [
    spec("token", "realm", "api"),
    spec("realm", "server", "db"),
    spec("server", "db"),
    spec("db"),
    spec("api", incident="api-outage"),
    spec("elsewhere", system="shop", incident="shop"),
]
BY_HAND = "# Realm\n\n## Check first\n\nLook twice.\n\n## Reasons\n"


def test_causes_come_before_what_they_explain_and_bring_their_own_causes() -> None:
    assert Graph(SPECS).in_order(["token", "realm", "server", "db"]) == ("db", "server", "realm", "api", "token")


def test_what_nobody_configured_is_not_in_the_order() -> None:
    assert Graph([spec("realm", "gone")]).in_order(["realm", "nobody"]) == ("realm",)


def test_a_circle_ends() -> None:
    assert Graph([spec("a", "b"), spec("b", "a")]).in_order(["a"]) == ("b", "a")


def test_the_table_links_a_probe_of_another_incident_to_its_page() -> None:
    listed = table(
        [spec("api", incident="api-outage"), spec("shop", system="shop"), spec("realm", "api")], "wipe", "realm"
    )
    assert listed.splitlines()[2:] == [
        "| 1 | `api` ([api-outage](api-outage.md)) | `http` |  |",
        "| 2 | `shop` ([realm](../shop/realm.md)) | `http` |  |",
        "| 3 | `realm` | `http` | `api` |",
    ]
    assert table([], "wipe", "realm") == ""


def test_the_list_is_put_below_its_heading_and_what_is_written_by_hand_stays() -> None:
    once = replaced(BY_HAND, "a list")
    assert once == f"# Realm\n\n## Check first\n\n{BEGIN}\na list\n\n{END}\nLook twice.\n\n## Reasons\n"
    assert replaced(once, "a list") == once
    assert replaced(once, "another") == replaced(BY_HAND, "another")
    assert replaced("# Realm\n", "a list") == "# Realm\n"
    assert replaced(BY_HAND, "") == BY_HAND


def test_a_reader_sees_no_marks_and_where_there_is_a_configuration_its_own_list() -> None:
    page = replaced(BY_HAND, "as shipped")
    assert unmarked(page) == "# Realm\n\n## Check first\n\nas shipped\n\nLook twice.\n\n## Reasons\n"
    assert unmarked(page, "my own") == unmarked(page).replace("as shipped", "my own")
    assert unmarked(BY_HAND) == BY_HAND
    assert unmarked("# Realm\n", "my own") == "# Realm\n"
    assert part("# Realm\n") is None

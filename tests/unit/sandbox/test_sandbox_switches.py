"""Switches on an estate that is only a list: what is caused, undone and refused, in which order."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.switches import FlipError, Switches, UnknownFaultError


class Acts(list[str]):
    """What was done, in order; an act whose text is in ``failing`` raises."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()


def act(text: str) -> Act:
    async def do(estate: Any) -> None:
        if text in estate.failing:
            raise RuntimeError(f"{text} failed")
        estate.append(text)

    return do


def fault(name: str, knob: str = "") -> Fault:
    return Fault(
        name, name.title(), "An effect.", "wipe", "an-incident", "a-probe", "a_reason",
        act(f"break {name}"), act(f"heal {name}"), knob,
    )  # fmt: skip


@pytest.fixture
def acts() -> Acts:
    return Acts()


@pytest.fixture
def switches(acts: Acts) -> Switches:
    faults = [fault("one"), fault("two"), fault("left", "knob"), fault("right", "knob")]
    return Switches(cast("Any", acts), {entry.name: entry for entry in faults})


async def test_a_fault_that_is_caused_twice_is_caused_once(switches: Switches, acts: Acts) -> None:
    await switches.cause("one")
    await switches.cause("one")
    assert acts == ["break one"]
    assert switches.active == ("one",)


async def test_undoing_what_is_not_active_does_nothing(switches: Switches, acts: Acts) -> None:
    await switches.undo("one")
    assert acts == []


async def test_a_fault_on_the_same_knob_replaces_the_one_before(switches: Switches, acts: Acts) -> None:
    await switches.cause("left")
    await switches.cause("right")
    assert acts == ["break left", "heal left", "break right"]
    assert switches.active == ("right",)


async def test_healing_undoes_the_newest_first(switches: Switches, acts: Acts) -> None:
    await switches.cause("one")
    await switches.cause("two")
    await switches.heal()
    assert acts == ["break one", "break two", "heal two", "heal one"]
    assert switches.active == ()


async def test_a_fault_that_cannot_be_caused_is_not_active_and_says_what_may_be_in_the_way(
    switches: Switches, acts: Acts
) -> None:
    await switches.cause("one")
    acts.failing = {"break two"}
    with pytest.raises(FlipError) as refused:
        await switches.cause("two")
    assert str(refused.value) == "two could not be caused: break two failed; active faults may be in the way: one"
    assert switches.active == ("one",)


async def test_healing_goes_on_past_a_fault_that_another_one_blocks(switches: Switches, acts: Acts) -> None:
    await switches.cause("one")
    await switches.cause("two")

    async def unblock(estate: Any) -> None:
        estate.failing.clear()

    acts.failing = {"heal two"}
    blocked = switches.faults["one"]
    cast("dict[str, Fault]", switches.faults)["one"] = Fault(
        blocked.name, blocked.title, blocked.effect, blocked.system, blocked.incident, blocked.expected_probe,
        blocked.expected_reason, blocked.cause, unblock,
    )  # fmt: skip
    await switches.heal()
    assert switches.active == ()


async def test_healing_that_cannot_go_on_says_so_and_keeps_the_fault(switches: Switches, acts: Acts) -> None:
    await switches.cause("one")
    acts.failing = {"heal one"}
    with pytest.raises(FlipError, match="one could not be undone: heal one failed"):
        await switches.heal()
    assert switches.active == ("one",)


async def test_a_misspelt_fault_names_the_nearest(switches: Switches) -> None:
    with pytest.raises(UnknownFaultError, match=r"there is no fault 'lefft'; did you mean left\?"):
        await switches.cause("lefft")

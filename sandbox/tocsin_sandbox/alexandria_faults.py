"""Faults of Alexandria EE: its API and the ways to it, its licence, its orchestrator's socket."""

from __future__ import annotations

import os
from dataclasses import replace

from tocsin_sandbox.alexandria_accounts import RETRY_AFTER
from tocsin_sandbox.alexandria_license import License
from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.serving import Mood

_SERVING = "api-not-serving"
_QUOTA = "quota-exceeded"
_SETUP = "setup-open"
_AUDIT = "audit-chain-failure"
_HEALTHY = License()


async def _stop(estate: Estate) -> None:
    await estate.alexandria.stop()


async def _start(estate: Estate) -> None:
    await estate.alexandria.start()


async def _stop_orchestrator(estate: Estate) -> None:
    await estate.orchestrator.stop()


async def _abandon_socket(estate: Estate) -> None:
    await estate.orchestrator.stop(leave_socket=True)


async def _start_orchestrator(estate: Estate) -> None:
    await estate.orchestrator.start()


async def _restart_orchestrator(estate: Estate) -> None:
    await estate.orchestrator.stop()
    await estate.orchestrator.start()


def _serving(serving: bool) -> Act:
    async def act(estate: Estate) -> None:
        await estate.orchestrator.serve(serving)

    return act


def _mood(mood: Mood) -> Act:
    async def act(estate: Estate) -> None:
        estate.alexandria.mood = mood

    return act


def _service_mood(mood: Mood) -> Act:
    async def act(estate: Estate) -> None:
        estate.alexandria_service.mood = mood

    return act


async def _stop_service(estate: Estate) -> None:
    await estate.alexandria_service.stop()


async def _start_service(estate: Estate) -> None:
    await estate.alexandria_service.start()


async def _stop_ingress(estate: Estate) -> None:
    await estate.alexandria_ingress.stop()


async def _start_ingress(estate: Estate) -> None:
    await estate.alexandria_ingress.start()


async def _serve_page(estate: Estate) -> None:
    estate.ingress.pages.add("/license")


async def _serve_all(estate: Estate) -> None:
    estate.ingress.pages.clear()


def _seal(sealed: bool) -> Act:
    async def act(estate: Estate) -> None:
        estate.elsewhere.vault_sealed = sealed

    return act


async def _forbid_socket(estate: Estate) -> None:
    if os.geteuid() == 0:
        raise RuntimeError("root may connect to any socket; run the sandbox as another user")
    estate.orchestrator.permit(False)


def _licence(name: str, value: int) -> Act:
    async def act(estate: Estate) -> None:
        setattr(estate.alexandria_api.license, name, value)

    return act


def _ends_in(days: int) -> Act:
    """The running licence and the installed one are the same: both end then."""

    async def act(estate: Estate) -> None:
        estate.alexandria_api.license.days = days
        await _install(estate)

    return act


async def _install(estate: Estate) -> None:
    estate.license_file.install(estate.alexandria_api.license)


async def _install_renewed(estate: Estate) -> None:
    estate.license_file.install(replace(estate.alexandria_api.license, days=565))


async def _install_untrusted(estate: Estate) -> None:
    estate.license_file.install(estate.alexandria_api.license, kid="another-issuer")


async def _damage_license(estate: Estate) -> None:
    estate.license_file.damage()


async def _remove_license(estate: Estate) -> None:
    estate.license_file.path.unlink(missing_ok=True)


async def _occupy_socket(estate: Estate) -> None:
    await estate.orchestrator.stop()
    estate.orchestrator.path.write_text("")


async def _hang_orchestrator(estate: Estate) -> None:
    await estate.orchestrator.stop()
    estate.orchestrator.hang()


def _set(name: str, value: object) -> Act:
    async def act(estate: Estate) -> None:
        setattr(estate.alexandria_api, name, value)

    return act


async def _lock_admin(estate: Estate) -> None:
    estate.alexandria_api.admin.lock()


async def _unlock_admin(estate: Estate) -> None:
    estate.alexandria_api.admin.unlock()


def _fault(
    name: str,
    title: str,
    effect: str,
    incident: str,
    probe: str,
    reason: str,
    cause: Act,
    undo: Act,
    knob: str = "",
    lingers: float = 0.0,
) -> Fault:
    return Fault(name, title, effect, "alexandria", incident, probe, reason, cause, undo, knob, lingers=lingers)


FAULTS = (
    _fault(
        "alexandria-stopped", "Alexandria's API is down", "Its server is stopped: connections are refused.",
        _SERVING, "alexandria-ready-inside", "connection_refused", _stop, _start,
    ),
    _fault(
        "alexandria-silent", "Alexandria's API hangs", "It takes connections and answers nothing.",
        _SERVING, "alexandria-ready-inside", "timeout", _mood(Mood.SILENT), _mood(Mood.NORMAL), "alexandria",
    ),
    _fault(
        "alexandria-errors", "Alexandria's API answers 500", "Every request gets a 500.",
        _SERVING, "alexandria-ready-inside", "server_error", _mood(Mood.ERROR), _mood(Mood.NORMAL), "alexandria",
    ),
    _fault(
        "alexandria-html", "A dashboard answers instead of the API",
        "Every path answers 200 with a page, as nginx does on the service's port.",
        _SERVING, "alexandria-ready-service", "html_instead_of_json",
        _service_mood(Mood.HTML), _service_mood(Mood.NORMAL),
    ),
    _fault(
        "alexandria-service-stopped", "The way to Alexandria's pod is gone", "The service refuses; the pod is well.",
        _SERVING, "alexandria-ready-service", "connection_refused", _stop_service, _start_service,
    ),
    _fault(
        "orchestrator-stopped", "The orchestrator is not running", "Its socket is gone; /ready answers 503.",
        _SERVING, "alexandria-orchestrator-socket", "socket_missing",
        _stop_orchestrator, _start_orchestrator, "orchestrator",
    ),
    _fault(
        "orchestrator-socket-stale", "The orchestrator died and left its socket", "Nobody listens behind the socket.",
        _SERVING, "alexandria-orchestrator-socket", "nobody_listening",
        _abandon_socket, _start_orchestrator, "orchestrator",
    ),
    _fault(
        "orchestrator-not-serving", "The orchestrator says that it does not serve", "Its health is NOT_SERVING.",
        _SERVING, "alexandria-orchestrator-socket", "not_serving", _serving(False), _serving(True),
    ),
    _fault(
        "orchestrator-socket-is-a-file", "Something else is at the socket's path", "A plain file lies there.",
        _SERVING, "alexandria-orchestrator-socket", "not_a_socket", _occupy_socket, _start_orchestrator, "orchestrator",
    ),
    _fault(
        "orchestrator-hangs", "The orchestrator hangs", "It takes connections and answers nothing.",
        _SERVING, "alexandria-orchestrator-socket", "deadline", _hang_orchestrator, _start_orchestrator, "orchestrator",
    ),
    _fault(
        "orchestrator-socket-forbidden", "The orchestrator's socket lets nobody in", "Nobody may write to it.",
        _SERVING, "alexandria-orchestrator-socket", "permission_denied",
        _forbid_socket, _restart_orchestrator, "orchestrator",
    ),
    _fault(
        "vault-sealed", "Vault is sealed", "Its health says so, with a 503.",
        _SERVING, "alexandria-vault", "sealed", _seal(True), _seal(False),
    ),
    _fault(
        "ingress-down", "The ingress is down", "It refuses connections; the service and the pod are well.",
        _SERVING, "alexandria-ready", "connection_refused", _stop_ingress, _start_ingress,
    ),
    _fault(
        "page-instead-of-licence", "A page comes in place of /license", "The ingress answers this path by itself.",
        _SERVING, "alexandria-license-json", "html_instead_of_json", _serve_page, _serve_all,
    ),
    _fault(
        "licence-damaged", "The licence does not verify", "More seats are written into it than were signed.",
        _SERVING, "alexandria-license-blob", "signature_invalid", _damage_license, _install, "licence file",
    ),
    _fault(
        "licence-untrusted", "The licence is signed by somebody else", "Its key id is not a trusted one.",
        _SERVING, "alexandria-license-blob", "untrusted_kid", _install_untrusted, _install, "licence file",
    ),
    _fault(
        "licence-missing", "There is no licence", "Its file is removed; what runs goes on until it restarts.",
        _SERVING, "alexandria-license-blob", "missing", _remove_license, _install, "licence file",
    ),
    _fault(
        "licence-not-loaded", "The licence was renewed and not loaded", "The file ends a year after /license does.",
        _SERVING, "alexandria-license-blob", "differs_from_running", _install_renewed, _install, "licence file",
    ),
    _fault(
        "seats-exhausted", "All seats are taken", "/license says 100 of 100 seats.",
        _QUOTA, "alexandria-license", "seats_exhausted", _licence("current_seats", _HEALTHY.max_seats),
        _licence("current_seats", _HEALTHY.current_seats), "seats",
    ),
    _fault(
        "seats-low", "Seats are running out", "/license says 96 of 100 seats.",
        _QUOTA, "alexandria-license", "seats_low",
        _licence("current_seats", 96), _licence("current_seats", _HEALTHY.current_seats), "seats",
    ),
    _fault(
        "tenants-exhausted", "All tenants are taken", "/license says 10 of 10 tenants; another gets 402.",
        _QUOTA, "alexandria-license", "tenants_exhausted", _licence("current_tenants", _HEALTHY.max_tenants),
        _licence("current_tenants", _HEALTHY.current_tenants), "tenants",
    ),
    _fault(
        "licence-expiring", "The licence ends in three weeks", "expires_at is 20 days away.",
        _QUOTA, "alexandria-license", "expiring", _ends_in(20), _ends_in(_HEALTHY.days), "licence file",
    ),
    _fault(
        "licence-expiring-soon", "The licence ends in six days", "expires_at is six days away.",
        _QUOTA, "alexandria-license", "expiring_soon",
        _ends_in(6), _ends_in(_HEALTHY.days), "licence file",
    ),
    _fault(
        "tenants-low", "Tenants are running out", "/license says 9 of 10 tenants.",
        _QUOTA, "alexandria-license", "tenants_low", _licence("current_tenants", 9),
        _licence("current_tenants", _HEALTHY.current_tenants), "tenants",
    ),
    _fault(
        "licence-ended", "The licence and its grace have ended", "It ended twenty days ago.",
        _QUOTA, "alexandria-license", "expired", _ends_in(-20), _ends_in(_HEALTHY.days), "licence file",
    ),
    _fault(
        "licence-in-grace", "The licence has ended", "It ended three days ago; the grace period runs.",
        _QUOTA, "alexandria-license-entitlements", "in_grace",
        _ends_in(-3), _ends_in(_HEALTHY.days), "licence file",
    ),
    _fault(
        "setup-open", "Anybody may set up an administrator", "/auth/setup says needs_setup on a live system.",
        _SETUP, "alexandria-setup-closed", "assertion_failed", _set("needs_setup", True), _set("needs_setup", False),
    ),
    _fault(
        "backend-disabled", "The default LLM backend is disabled", "/v1/backends says so; queries would get 503.",
        _SERVING, "alexandria-default-backend", "assertion_failed",
        _set("backend_enabled", False), _set("backend_enabled", True),
    ),
    _fault(
        "part-down", "The administration says that a part is down", "/admin/status says of the api that it is down.",
        _SERVING, "alexandria-admin-status", "assertion_failed", _set("part_down", "api"), _set("part_down", ""),
    ),
    _fault(
        "providers-broken", "The list of sign-in providers is broken", "/auth/providers answers 200 with an error.",
        _SERVING, "alexandria-auth-providers", "assertion_failed",
        _set("providers_broken", True), _set("providers_broken", False),
    ),
    _fault(
        "administrator-locked", "The probe's administrator is locked",
        "The sessions of the account are ended; a login gets 429 and the seconds to wait.",
        _SERVING, "alexandria-admin-status", "dependency_unknown", _lock_admin, _unlock_admin, lingers=RETRY_AFTER + 1,
    ),
    _fault(
        "audit-verify-fails", "The platform says that its audit chain is broken", "verify answers verified: false.",
        _AUDIT, "alexandria-audit-verify", "chain_broken", _set("chain_trusted", False), _set("chain_trusted", True),
    ),
)  # fmt: skip

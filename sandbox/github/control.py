"""The control endpoint: faults, limits, webhook and records, for whoever runs the sandbox.

It answers on the same port, without a token, to JSON:

    GET    /_control                          what is served: url, head, counts
    POST   /_control/faults                   one fault or a list of them -> [{"id": 1}, ...]
    GET    /_control/faults                   those still active, and how often each struck
    DELETE /_control/faults                   all of them; DELETE /_control/faults/1 just one
    GET    /_control/requests?last=50         counts by kind and the latest requests
    DELETE /_control/requests                 start counting anew
    PUT    /_control/limits                   {"content_per_minute": null, ...} or {"off": true}
    PUT    /_control/webhook                  {"url": "...", "secret": "..."}; DELETE: none
    GET    /_control/deliveries               webhook deliveries and their attempts
    POST   /_control/deliveries/GUID/attempts send one again, under the same GUID
    GET    /_control/catalogue                every message, recorded or assumed

A fault is an object like `{"kind": "bad_gateway", "when": "after", "operation": "mutation"}`;
its fields, all but `kind` optional, are those of `sandbox.github.faults.Fault`:

    kind            latency, bad_gateway, gateway_timeout, dropped, hang, something_wrong,
                    rate_limit, secondary_rate_limit, resource_limits, bad_credentials,
                    forbidden, saml, branch_protection, ruleset, graphql_error, partial,
                    ref_moved, lagging_head, corrupted_blob, repository_missing,
                    repository_renamed, repository_archived, webhook_drop, webhook_delay,
                    webhook_duplicate, webhook_reorder
    when            before (default) or after the request was carried out
    operation       query, mutation, rest, token, git or webhook: only those
    operation_name  only operations of that name (or webhook events of that name)
    token           only requests made with that token
    nth             only the nth of the requests that match
    probability     0 to 1, with `seed`
    count           how often (default 1; null: until cleared)
    for_ms          how long after being set
    ms, max_ms      latency and webhook_delay: how long; lagging_head: how far behind
    status          something_wrong: 200 or 502; secondary_rate_limit: 403, 429 or 200
    retry_after     secondary_rate_limit: seconds, or null for no header
    type            rate_limit: RATE_LIMIT or RATE_LIMITED; graphql_error: the error's type
    message         forbidden, branch_protection, ruleset, graphql_error: the words
    containing      ruleset: only commits that add a file with these words
    head            lagging_head: the commit the replica is stuck at (default: the head now)
    mode            corrupted_blob: truncated or corrupted
    name            repository_renamed: the new owner/name
    files           ref_moved: path -> text of the other writer's commit
"""

import json
from collections.abc import Callable
from dataclasses import asdict, fields

from aiohttp import web
from pydantic import ValidationError

from sandbox.github import catalogue
from sandbox.github.faults import Fault, Faults
from sandbox.github.hosting import Hosting
from sandbox.github.limits import Limits, Meter
from sandbox.github.recorder import Requests
from sandbox.github.webhooks import Delivery, Webhook, Webhooks


class Control:
    def __init__(
        self,
        hosting: Hosting,
        faults: Faults,
        meter: Meter,
        requests: Requests,
        webhooks: Callable[[], Webhooks],
    ) -> None:
        self._hosting = hosting
        self._faults = faults
        self._meter = meter
        self._requests = requests
        self._webhooks = webhooks

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_control", self.show),
            web.post("/_control/faults", self.add_faults),
            web.get("/_control/faults", self.show_faults),
            web.delete("/_control/faults", self.clear_faults),
            web.delete("/_control/faults/{id:[0-9]+}", self.clear_fault),
            web.get("/_control/requests", self.show_requests),
            web.delete("/_control/requests", self.clear_requests),
            web.put("/_control/limits", self.set_limits),
            web.put("/_control/webhook", self.set_webhook),
            web.delete("/_control/webhook", self.clear_webhook),
            web.get("/_control/deliveries", self.show_deliveries),
            web.post("/_control/deliveries/{guid}/attempts", self.redeliver),
            web.get("/_control/catalogue", self.show_catalogue),
        ]

    async def show(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "url": self._hosting.url,
                "repository": self._hosting.name,
                "branch": self._hosting.branch,
                "head": self._hosting.head(),
                "requests": dict(self._requests.counts),
                "faults": len(list(self._faults)),
            }
        )

    async def add_faults(self, request: web.Request) -> web.Response:
        body = await _body(request)
        try:
            wanted = [Fault.model_validate(one) for one in _as_list(body)]
        except ValidationError as error:
            problems = json.loads(error.json(include_url=False, include_context=False))
            return web.json_response({"errors": problems}, status=400)
        return web.json_response([{"id": self._faults.add(fault).id} for fault in wanted])

    async def show_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(
            [
                {"id": fault.id, "struck": fault.struck, **fault.model_dump(exclude_defaults=True)}
                for fault in self._faults
            ]
        )

    async def clear_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    async def clear_fault(self, request: web.Request) -> web.Response:
        for fault in self._faults:
            if fault.id == int(request.match_info["id"]):
                self._faults.clear(fault)
                return web.Response(status=204)
        return web.json_response({"message": "no such fault"}, status=404)

    async def show_requests(self, request: web.Request) -> web.Response:
        asked = request.query.get("last", "50")
        last = int(asked) if asked.isascii() and asked.isdigit() else 50
        latest = list(self._requests)[-last:] if last else []
        return web.json_response(
            {
                "counts": dict(self._requests.counts),
                "running": self._requests.running,
                "latest": [asdict(one) for one in latest],
            }
        )

    async def clear_requests(self, _request: web.Request) -> web.Response:
        self._requests.clear()
        return web.Response(status=204)

    async def set_limits(self, request: web.Request) -> web.Response:
        body = await _body(request)
        known = {field.name for field in fields(Limits)}
        if not isinstance(body, dict) or not (body.keys() <= known | {"off"}):
            return web.json_response({"message": f"limits are {sorted(known)}"}, status=400)
        off = body.pop("off", False)
        if any(not (value is None or isinstance(value, int)) for value in body.values()):
            return web.json_response({"message": "a limit is a number or null"}, status=400)
        base = asdict(Limits.off() if off else self._meter.limits)
        self._meter.limits = Limits(**{**base, **body})
        return web.json_response(asdict(self._meter.limits))

    async def set_webhook(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if not isinstance(body, dict) or not isinstance(body.get("url"), str):
            return web.json_response({"message": "a webhook has a url"}, status=400)
        secret = body.get("secret")
        self._webhooks().webhook = Webhook(body["url"], str(secret) if secret else None)
        return web.Response(status=204)

    async def clear_webhook(self, _request: web.Request) -> web.Response:
        self._webhooks().webhook = None
        return web.Response(status=204)

    async def show_deliveries(self, _request: web.Request) -> web.Response:
        return web.json_response([_shape(one) for one in self._webhooks().deliveries])

    async def redeliver(self, request: web.Request) -> web.Response:
        delivery = await self._webhooks().redeliver(request.match_info["guid"])
        if delivery is None:
            return web.json_response({"message": "no such delivery"}, status=404)
        return web.json_response(_shape(delivery), status=202)

    async def show_catalogue(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                name: {
                    "message": message.text,
                    "type": message.type,
                    "basis": message.basis,
                    "type_basis": message.type_basis,
                }
                for name, message in catalogue.ALL.items()
            }
        )


def _shape(delivery: Delivery) -> dict[str, object]:
    return {
        "guid": delivery.guid,
        "event": delivery.event,
        "delivered": delivery.delivered,
        "attempts": [asdict(attempt) for attempt in delivery.attempts],
    }


def _as_list(body: object) -> list[object]:
    return body if isinstance(body, list) else [body]


async def _body(request: web.Request) -> object:
    try:
        return json.loads(await request.read())
    except ValueError as error:
        raise web.HTTPBadRequest(text="the body must be JSON") from error

"""
Events for other programs: one structured CloudEvents 1.0 JSON event a message, without personal fields.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
from aio_pika import DeliveryMode, Message
from pydantic import BaseModel

from schemas.envelope import RecordedEvent, cloud_event
from schemas.errors import UnknownEvent
from schemas.messages import Event
from schemas.moves import DOMAIN, OWN_EVENTS
from schemas.personal import is_personal, models_in
from schemas.registry import Registry

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


class CloudEvents:
    """Makes messages of events, by the registry that says what is personal."""

    def __init__(self, registry: Registry, namespace: str) -> None:
        self._registry = registry
        self._namespace = namespace

    def first_unknown(self, events: Sequence[RecordedEvent]) -> RecordedEvent | None:
        """Return the first event whose type or version this program does not know; None when it knows all."""
        return next((event for event in events if self._model_of(event) is None), None)

    def _model_of(self, event: RecordedEvent) -> type[Event] | None:
        place = event.type, event.schema_version
        return self._registry.events.get(place) or OWN_EVENTS.get(place)

    def message_of(self, event: RecordedEvent) -> tuple[str, Message]:
        """
        Return an event's routing key, `{tenant}.{collection}.{type}`, and its message.

        Raises:
            UnknownEvent: This program does not know the event, so it cannot tell what in it is personal.
        """
        model = self._model_of(event)
        if model is None:
            raise UnknownEvent(event.type, event.schema_version)
        data = without_personal(model, orjson.loads(event.data))
        domain = self._registry.domain_of.get(model, DOMAIN)
        document = cloud_event(event, namespace=self._namespace, domain=domain, data=data)
        message = Message(
            orjson.dumps(document),
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=event.id,
            type=document["type"],
            timestamp=event.recorded_at,
        )
        return f"{event.tenant}.{event.stream.partition('/')[0]}.{event.type}", message


def without_personal(model: type[BaseModel], data: Any) -> Any:
    """Return a model's data without the fields that are marked personal, at any depth."""
    if not isinstance(data, Mapping):
        return data
    kept = {}
    for name, value in data.items():
        is_personal, inner = _field(model, name)
        if is_personal:
            continue
        if inner is not None and isinstance(value, list):
            value = [without_personal(inner, item) for item in value]
        elif inner is not None:
            value = without_personal(inner, value)
        kept[name] = value
    return kept


@lru_cache(maxsize=4096)
def _field(model: type[BaseModel], name: str) -> tuple[bool, type[BaseModel] | None]:
    """Say whether a field is personal, and which model it holds, alone or in a collection."""
    field = model.model_fields.get(name)
    if field is None:
        return False, None
    return is_personal(field), next(models_in(field.annotation), None)

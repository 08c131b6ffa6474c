"""Drivers: uploaded once and used by many videos; three are built in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request, Response

from pipelines.storage.scratch import ScratchFolder
from serving.bodies import DriverList, DriverView
from serving.service import errors
from serving.service.builtin_drivers import BUILTIN_DRIVERS, builtin_driver
from serving.service.http import uploads
from serving.service.http.access import Caller
from serving.service.http.files import send_file
from serving.service.http.forms import form_files, form_schema, form_text, read_form, save
from serving.service.http.routes.common import Reader, ServiceOf, Writer, client_id, new_router
from serving.service.http.service import Service
from serving.service.state.drivers import StoredDriver
from serving.service.store import checked_id, new_id
from serving.service.views import driver_view

router = new_router()
_UPLOAD: dict[str, Any] = {"status_code": 201, "openapi_extra": form_schema(["driver"], ["name"], ["driver"])}
_NAME_LENGTH = 120


@router.post("/v1/drivers", **_UPLOAD)
async def create_driver(request: Request, service: ServiceOf, caller: Writer) -> DriverView:
    """Upload a driver: a video, speech, a motion file, an ARKit recording (.csv) or key frames (.csv, .json)."""
    return await _create(new_id(), request, service, caller)


@router.put("/v1/drivers/{driver_id}", **_UPLOAD)
async def put_driver(driver_id: str, request: Request, service: ServiceOf, caller: Writer) -> DriverView:
    """Upload a driver whose id the client chooses (a UUID)."""
    return await _create(client_id(driver_id, "driver"), request, service, caller)


async def _create(driver_id: str, request: Request, service: Service, caller: Caller) -> DriverView:
    async with read_form(request, service.limits) as form:

        def take() -> DriverView:
            files = form_files(form, ("driver",), ("name",))
            if len(files) != 1:
                raise errors.BadInput(f"{len(files)} files: a driver is one")
            client_name = files[0].filename
            name = (form_text(form, "name") or Path(client_name or "driver").name)[:_NAME_LENGTH]
            with ScratchFolder() as folder:
                path = Path(folder) / f"driver{uploads.driver_suffix(client_name)}"
                save(files[0].file, path, max_bytes=service.limits.max_body, what="driver")
                uploads.check_driver(path, "driver")
                service.drivers.reserve(
                    StoredDriver(driver_id, caller.owner, name, path.name, path.stat().st_size, 0.0)
                )
                try:
                    service.store.put(path, service.store.driver(driver_id, path.name))
                    stored = service.drivers.ready(driver_id)
                except BaseException:
                    service.store.remove_driver(driver_id)
                    service.drivers.delete(driver_id)
                    raise
            service.audit.note(caller.owner, "driver.create", driver_id)
            return driver_view(stored)

        return await service.storing(take)


@router.get("/v1/drivers")
async def list_drivers(service: ServiceOf, caller: Reader) -> DriverList:
    """List the built-in drivers and the stored ones, the newest first."""
    stored = await service.reading(service.drivers.list, None if caller.sees_all else caller.owner)
    builtin = [driver_view(driver) for driver in BUILTIN_DRIVERS.values()]
    return DriverList(drivers=[*builtin, *map(driver_view, stored)])


@router.get("/v1/drivers/{driver_id}")
async def get_driver(driver_id: str, service: ServiceOf, caller: Reader) -> DriverView:
    """Return a driver."""
    if (builtin := builtin_driver(driver_id)) is not None:
        return driver_view(builtin)
    return driver_view(await service.reading(find_driver, service, driver_id, caller))


@router.get("/v1/drivers/{driver_id}/content", response_class=Response)
async def get_driver_content(driver_id: str, request: Request, service: ServiceOf, caller: Reader) -> Response:
    """Return a driver's file. Ranges are supported."""
    if (builtin := builtin_driver(driver_id)) is not None:
        path = await service.storing(builtin.path)
        return await send_file(service, request, str(path), "video/mp4", f"{builtin.name}.mp4")
    driver = await service.reading(find_driver, service, driver_id, caller)
    media = "video/mp4" if driver.file.endswith(".mp4") else "application/octet-stream"
    return await send_file(service, request, service.store.driver(driver.id, driver.file), media, driver.file)


@router.delete("/v1/drivers/{driver_id}", status_code=204)
async def delete_driver(driver_id: str, service: ServiceOf, caller: Writer) -> None:
    """Delete a stored driver. Waiting videos that use it will fail."""

    def delete() -> None:
        driver = find_driver(service, driver_id, caller)
        service.store.remove_driver(driver.id)
        service.drivers.delete(driver.id)
        service.audit.note(caller.owner, "driver.delete", driver.id)

    if builtin_driver(driver_id) is not None:
        raise errors.Conflict("a built-in driver cannot be deleted")
    await service.storing(delete)


def find_driver(service: Service, driver_id: str, caller: Caller) -> StoredDriver:
    """Return a stored driver of the caller's. Raises NotFound."""
    driver = service.drivers.get(checked_id(driver_id, "driver"))
    if not caller.sees(driver.owner):
        raise errors.NotFound("there is no such driver")
    return driver

"""Calls a container runtime over its CRI socket.

    cri.py SOCKET SECONDS

Every line of input is a list of calls to make at the same time, as
[["RunPodSandbox", {"config": …}], …]; the line of output that answers it is
the list of {"ok": …} or {"error": …}. Ends with its input, or after SECONDS.
"""

import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

PATIENCE = 60

# The part of the CRI's runtime.v1 that is used: field, number and kind, where
# a kind is another message, or one of text, number and map.
MESSAGES = {
    "ImageStatusRequest": "image=1 ImageSpec",
    "ImageStatusResponse": "image=1 Image",
    "ImageSpec": "image=1 text",
    "Image": "id=1 text",
    "StatusRequest": "",
    "StatusResponse": "status=1 RuntimeStatus",
    "RuntimeStatus": "conditions=1 RuntimeCondition",
    "RuntimeCondition": "type=1 text, status=2 number, reason=3 text, message=4 text",
    "RunPodSandboxRequest": "config=1 PodSandboxConfig",
    "RunPodSandboxResponse": "pod_sandbox_id=1 text",
    "PodSandboxConfig": "metadata=1 PodSandboxMetadata, hostname=2 text, linux=8 LinuxPodSandboxConfig",
    "PodSandboxMetadata": "name=1 text, uid=2 text, namespace=3 text, attempt=4 number",
    "LinuxPodSandboxConfig": "cgroup_parent=1 text",
    "PodSandboxStatusRequest": "pod_sandbox_id=1 text, verbose=2 number",
    "PodSandboxStatusResponse": "status=1 PodSandboxStatus, info=2 map",
    "PodSandboxStatus": "id=1 text, metadata=2 PodSandboxMetadata, state=3 number, created_at=4 number, "
    "network=5 PodSandboxNetworkStatus",
    "PodSandboxNetworkStatus": "ip=1 text, additional_ips=2 PodIP",
    "PodIP": "ip=1 text",
    "StopPodSandboxRequest": "pod_sandbox_id=1 text",
    "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "pod_sandbox_id=1 text",
    "RemovePodSandboxResponse": "",
    "ListPodSandboxRequest": "",
    "ListPodSandboxResponse": "items=1 PodSandbox",
    "PodSandbox": "id=1 text, metadata=2 PodSandboxMetadata, state=3 number",
    "CreateContainerRequest": "pod_sandbox_id=1 text, config=2 ContainerConfig, sandbox_config=3 PodSandboxConfig",
    "CreateContainerResponse": "container_id=1 text",
    "ContainerConfig": "metadata=1 ContainerMetadata, image=2 ImageSpec, command=3 text, args=4 text",
    "ContainerMetadata": "name=1 text, attempt=2 number",
    "StartContainerRequest": "container_id=1 text",
    "StartContainerResponse": "",
    "ExecSyncRequest": "container_id=1 text, cmd=2 text, timeout=3 number",
    "ExecSyncResponse": "stdout=1 text, stderr=2 text, exit_code=3 number",
}


def fields(message):
    """The fields of a message: name, number, kind."""
    for field in filter(None, MESSAGES[message].split(", ")):
        key, kind = field.split(" ")
        name, number = key.split("=")
        yield name, int(number), kind


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def encode(message, values):
    """A message in protobuf's encoding."""
    numbers = {name: (number, kind) for name, number, kind in fields(message)}
    out = b""
    for name, value in values.items():
        number, kind = numbers[name]
        if kind == "number":
            out += varint(number << 3) + varint(int(value))
            continue
        if kind == "map":
            parts = [encode_pair(key, text) for key, text in value.items()]
        else:
            items = value if isinstance(value, list) else [value]
            parts = [item.encode() if kind == "text" else encode(kind, item) for item in items]
        for part in parts:
            out += varint(number << 3 | 2) + varint(len(part)) + part
    return out


def encode_pair(key, value):
    parts = [key.encode(), value.encode()]
    return b"".join(varint(number << 3 | 2) + varint(len(part)) + part for number, part in enumerate(parts, 1))


def records(data):
    """Numbers and values of the fields of an encoded message."""
    position = 0

    def number():
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while position < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            length, value = value, data[position : position + value]
            position += length
        elif key & 7 != 0:
            raise ValueError(f"wire type {key & 7}")
        yield key >> 3, value


def decode(message, data):
    """An encoded message; every text and message is a list, since it may be repeated."""
    known = {number: (name, kind) for name, number, kind in fields(message)}
    out = {}
    for number, value in records(data):
        name, kind = known.get(number, (None, None))
        if kind == "number":
            out[name] = value
        elif kind == "map":
            pair = dict(records(value))
            out.setdefault(name, {})[pair.get(1, b"").decode()] = pair.get(2, b"").decode()
        elif kind:
            out.setdefault(name, []).append(value.decode() if kind == "text" else decode(kind, value))
    return out


def call(channel, method, values):
    service = "Image" if method.startswith("Image") else "Runtime"
    remote = channel.unary_unary(
        f"/runtime.v1.{service}Service/{method}",
        request_serializer=lambda values: encode(method + "Request", values),
        response_deserializer=lambda data: decode(method + "Response", data),
    )
    try:
        return {"ok": remote(values, timeout=PATIENCE)}
    except grpc.RpcError as error:
        return {"error": f"{method}: {error.code().name}: {error.details()}"}


def main():
    socket, seconds = sys.argv[1:]
    signal.alarm(int(seconds))
    with grpc.insecure_channel(f"unix:{socket}") as channel, ThreadPoolExecutor(16) as pool:
        for line in sys.stdin:
            answers = pool.map(lambda item: call(channel, *item), json.loads(line))
            print(json.dumps(list(answers)), flush=True)


main()

//! Pods, as a kubelet handles them.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::cri::{Request, Response, text};
use super::node::{IMAGE, Node};

/// A pod sandbox.
#[derive(Debug)]
pub(super) struct Pod {
    name: String,
    /// The container id that CNI plugins see.
    pub(super) id: String,
}

impl Node {
    /// What to ask for a pod.
    pub(super) fn pod_request(&self, name: &str) -> Request {
        ("RunPodSandbox", json!({ "config": self.pod_config(name) }))
    }

    fn pod_config(&self, name: &str) -> Value {
        json!({
            "metadata": { "name": name, "uid": format!("uid-{name}"), "namespace": "default" },
            "hostname": name,
            "linux": { "cgroup_parent": self.cgroup.path() },
        })
    }

    /// Runs a pod.
    pub(super) fn run_pod(&mut self, name: &str) -> anyhow::Result<Pod> {
        self.run_pods(&[name])?.pop().context("a pod")
    }

    /// Runs pods at the same time.
    pub(super) fn run_pods(&mut self, names: &[&str]) -> anyhow::Result<Vec<Pod>> {
        let requests = names.iter().map(|name| self.pod_request(name)).collect();
        let answers = succeed(self.cri.call_at_once(requests)?)?;
        let pod = |(name, answer): (&&str, Value)| {
            Ok(Pod { name: (*name).to_owned(), id: text(&answer, "/pod_sandbox_id/0")? })
        };
        names.iter().zip(answers).map(pod).collect()
    }

    /// The addresses in a pod's status, the first one first.
    pub(super) fn addresses(&mut self, pod: &Pod) -> anyhow::Result<Vec<IpAddr>> {
        let answer = self.cri.call("PodSandboxStatus", json!({ "pod_sandbox_id": pod.id }))?;
        let mut addresses = vec![text(&answer, "/status/0/network/0/ip/0")?];
        let more = answer.pointer("/status/0/network/0/additional_ips").and_then(Value::as_array);
        for address in more.into_iter().flatten() {
            addresses.push(text(address, "/ip/0")?);
        }
        let parse = |text: String| text.parse().with_context(|| format!("read the address {text:?}"));
        addresses.into_iter().map(parse).collect()
    }

    /// The name of a pod's network namespace, in `/run/netns`.
    pub(super) fn namespace(&mut self, pod: &Pod) -> anyhow::Result<String> {
        let answer =
            self.cri.call("PodSandboxStatus", json!({ "pod_sandbox_id": pod.id, "verbose": true }))?;
        let info: Value = serde_json::from_str(&text(&answer, "/info/info")?)?;
        let namespaces = info.pointer("/runtimeSpec/linux/namespaces").and_then(Value::as_array);
        let path = namespaces.into_iter().flatten().find(|namespace| namespace["type"] == "network");
        let path = text(path.context("the pod has a network namespace")?, "/path")?;
        Ok(path.rsplit_once('/').context("a path")?.1.to_owned())
    }

    /// Starts a container in a pod.
    pub(super) fn start_container(&mut self, pod: &Pod) -> anyhow::Result<String> {
        let config = json!({
            "metadata": { "name": "main" },
            "image": { "image": IMAGE },
            "command": ["/bin/busybox", "sleep", "600"],
        });
        let request = json!({ "pod_sandbox_id": pod.id, "config": config, "sandbox_config": self.pod_config(&pod.name) });
        let id = text(&self.cri.call("CreateContainer", request)?, "/container_id/0")?;
        self.cri.call("StartContainer", json!({ "container_id": id }))?;
        Ok(id)
    }

    /// Runs a line of busybox's shell in a container; it has to succeed.
    pub(super) fn exec(&mut self, container: &str, command: &str) -> anyhow::Result<String> {
        let words = ["/bin/busybox", "sh", "-c", command];
        let answer =
            self.cri.call("ExecSync", json!({ "container_id": container, "cmd": words, "timeout": 20 }))?;
        ensure!(
            answer["exit_code"].as_u64().unwrap_or(0) == 0,
            "{command:?} failed in a container: {answer}"
        );
        Ok(answer.pointer("/stdout/0").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Stops pods at the same time, or removes them.
    pub(super) fn end_pods(&mut self, method: &'static str, pods: &[Pod]) -> anyhow::Result<()> {
        let requests = pods.iter().map(|pod| (method, json!({ "pod_sandbox_id": pod.id }))).collect();
        succeed(self.cri.call_at_once(requests)?).map(drop)
    }

    /// Stops a pod.
    pub(super) fn stop(&mut self, pod: &Pod) -> anyhow::Result<()> {
        self.cri.call("StopPodSandbox", json!({ "pod_sandbox_id": pod.id })).map(drop)
    }

    /// Removes a pod; containerd stops it first if need be.
    pub(super) fn remove(&mut self, pod: &Pod) -> anyhow::Result<()> {
        self.cri.call("RemovePodSandbox", json!({ "pod_sandbox_id": pod.id })).map(drop)
    }

    /// The ids of all pods that containerd knows.
    pub(super) fn pods(&mut self) -> anyhow::Result<Vec<String>> {
        let answer = self.cri.call("ListPodSandbox", json!({}))?;
        answer["items"].as_array().into_iter().flatten().map(|pod| text(pod, "/id/0")).collect()
    }
}

fn succeed(answers: Vec<Response>) -> anyhow::Result<Vec<Value>> {
    answers.into_iter().map(|answer| answer.map_err(anyhow::Error::msg)).collect()
}

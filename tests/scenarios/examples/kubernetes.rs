//! `examples/kubernetes`: the containers of the manifest, begun and ended in a cluster's order.

use std::fs;
use std::process::Command;

use serde_json::Value;
use walstream_test_support::process::run;
use walstream_test_support::{Running, Tool, tool, wait_until, workspace};

use super::{END, Machine, example, lose, status, terminate, visit};
use crate::site::SOON;

/// What the manifest describes, in a cluster that is this machine.
struct Cluster {
    machine: Machine,
    objects: Vec<Value>,
}

impl Cluster {
    /// `kubectl apply`.
    fn apply() -> Cluster {
        let objects: Vec<Value> = serde_yaml::from_multiple(&example("kubernetes/visits.yaml")).unwrap();
        let machine = Machine::new("docker", &["/data", "/etc"]);
        let cluster = Cluster { machine, objects };
        let config = cluster.object("ConfigMap")["data"]["litestream.yml"].as_str().unwrap();
        fs::write(cluster.machine.path("/etc/litestream.yml"), cluster.machine.here(config)).unwrap();
        cluster
    }

    fn object(&self, kind: &str) -> &Value {
        self.objects.iter().find(|object| object["kind"] == kind).unwrap()
    }

    fn pod(&self) -> &Value {
        &self.object("StatefulSet")["spec"]["template"]["spec"]
    }

    fn containers(&self, kind: &str) -> &[Value] {
        self.pod()[kind].as_array().unwrap()
    }

    /// A container begins: the entrypoint of its image with its arguments, or its command.
    fn begin(&self, container: &Value) -> Running {
        let words = |key: &str| -> Vec<String> { serde_json::from_value(container[key].clone()).unwrap() };
        let mut command = match container["image"].as_str().unwrap() {
            "walstream:latest" => {
                self.machine.command(&[vec!["walstream".to_owned()], words("args")].concat())
            }
            _ => self.machine.command(&words("command")),
        };
        for variable in container["env"].as_array().into_iter().flatten() {
            let text = |key: &str| variable[key].as_str().unwrap();
            command.env(text("name"), self.machine.here(text("value")));
        }
        for source in container["envFrom"].as_array().into_iter().flatten() {
            let secret = self.object("Secret");
            assert_eq!(source["secretRef"]["name"], secret["metadata"]["name"]);
            let variables = secret["stringData"].as_object().unwrap();
            command.envs(variables.iter().map(|(name, value)| (name, value.as_str().unwrap())));
        }
        let mounts = container["volumeMounts"].as_array().unwrap();
        if mounts.iter().any(|mount| mount["mountPath"] == "/etc/litestream.yml" && mount["name"] == "config")
        {
            command.env("LITESTREAM_CONFIG", self.machine.path("/etc/litestream.yml"));
        }
        Running::start(&mut command)
    }

    /// The pod begins: what runs then, in the order in which it ends.
    fn start(&self) -> Vec<Running> {
        let mut sidecars = Vec::new();
        for container in self.containers("initContainers") {
            let begun = self.begin(container);
            match container["restartPolicy"] == "Always" {
                true => sidecars.insert(0, begun),
                false => drop(begun.wait(END).success()),
            }
        }
        self.containers("containers").iter().map(|container| self.begin(container)).chain(sidecars).collect()
    }

    /// The port and the path that a probe of the sidecar asks.
    fn probe(&self, name: &str) -> (u16, &str) {
        let sidecar = self.containers("initContainers").last().unwrap();
        let asks = &sidecar[name]["httpGet"];
        let mut ports = sidecar["ports"].as_array().unwrap().iter();
        let port = ports.find(|port| port["name"] == asks["port"]).unwrap();
        (self.machine.port(&port["containerPort"].to_string()), asks["path"].as_str().unwrap())
    }
}

#[test]
fn a_pod_whose_volume_is_lost_goes_on_where_it_ended() {
    let cluster = Cluster::apply();
    let port = cluster.machine.port("8080");
    for counted in ["1 visits", "2 visits", "3 visits"] {
        let pod = cluster.start();
        assert_eq!(visit(port), counted);
        for probe in ["livenessProbe", "readinessProbe"] {
            let (port, path) = cluster.probe(probe);
            wait_until(&format!("{path} is answered well"), SOON, || status(port, path) == Some(200));
        }
        pod.into_iter().for_each(terminate);
        lose(&cluster.machine.path("/data"));
    }
}

#[test]
fn every_object_is_one_that_kubernetes_knows() {
    // ReadWriteOncePod and sidecars are there since 1.29.
    for version in ["1.29", "1.37"] {
        let mut command = Command::new(tool(Tool::KubernetesValidate));
        command.args(["--strict", "-k", version]).arg(workspace().join("examples/kubernetes/visits.yaml"));
        let said = run(&mut command, END).success();
        assert_eq!((said.stdout + &said.stderr).matches(" passed for resource ").count(), 4);
    }
}

#[test]
fn the_probes_ask_what_they_are_for() {
    let cluster = Cluster::apply();
    assert_eq!(
        [cluster.probe("livenessProbe").1, cluster.probe("readinessProbe").1],
        ["/healthz", "/readyz"]
    );
}

#[test]
fn there_is_one_writer_and_it_gets_the_time_to_end() {
    let cluster = Cluster::apply();
    let set = cluster.object("StatefulSet");
    assert_eq!(set["spec"]["replicas"], 1);
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["spec"]["accessModes"][0], "ReadWriteOncePod");
    // walstream tries for 30 s to upload what is left.
    assert!(cluster.pod()["terminationGracePeriodSeconds"].as_u64().unwrap() > 30);
    // The restore comes before anything else, and every volume that is mounted is there.
    let [restore, sidecar] = cluster.containers("initContainers") else {
        panic!("two containers come before")
    };
    assert_eq!((&restore["name"], &sidecar["restartPolicy"]), (&"restore".into(), &"Always".into()));
    let volumes = [&cluster.pod()["volumes"][0]["name"], &claim["metadata"]["name"]];
    for container in cluster.containers("initContainers").iter().chain(cluster.containers("containers")) {
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert!(volumes.contains(&&mount["name"]), "{mount}");
        }
    }
    let selected = &set["spec"]["selector"]["matchLabels"];
    assert_eq!(selected, &set["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(selected, &cluster.object("Service")["spec"]["selector"]);
}

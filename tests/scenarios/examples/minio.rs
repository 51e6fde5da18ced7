//! `examples/minio`: the services of the Compose file, with another S3 server in MinIO's place.

use serde_json::Value;
use walstream_test_support::{Running, wait_until};

use super::{END, Machine, block, example, lose, status, terminate, visit};
use crate::site::SOON;

/// The services, in an order in which each comes after those that it depends on.
fn in_order(services: &Value) -> Vec<(&str, &Value)> {
    let mut waiting: Vec<_> = services.as_object().unwrap().iter().collect();
    let mut ordered: Vec<(&str, &Value)> = Vec::new();
    while !waiting.is_empty() {
        let begun = |name: &String| ordered.iter().any(|(begun, _)| begun == name);
        let ready = waiting.iter().position(|(_, service)| {
            service["depends_on"].as_object().is_none_or(|needed| needed.keys().all(begun))
        });
        let (name, service) = waiting.remove(ready.expect("no service waits for itself"));
        ordered.push((name, service));
    }
    ordered
}

/// `docker compose up`: what goes on, in the order in which Compose stops it.
fn up(machine: &Machine, services: &Value) -> Vec<Running> {
    let mut running = Vec::new();
    for (name, service) in in_order(services) {
        let words = |key: &str| -> Vec<String> { serde_json::from_value(service[key].clone()).unwrap() };
        let mut command = match service["image"].as_str().unwrap() {
            "walstream" => machine.command(&[vec!["walstream".to_owned()], words("command")].concat()),
            "visits" if name == "visits" => machine.command(&words("entrypoint")),
            // The store, its bucket and the owner of the volume, which are there.
            _ => continue,
        };
        for (name, value) in service["environment"].as_object().into_iter().flatten() {
            command.env(name, machine.here(value.as_str().unwrap()));
        }
        if service["volumes"].as_array().unwrap().contains(&"./litestream.yml:/etc/litestream.yml:ro".into())
        {
            command.env("LITESTREAM_CONFIG", machine.folder.join("../minio/litestream.yml"));
        }
        let begun = Running::start(&mut command);
        match service["restart"].is_string() {
            true => running.insert(0, begun),
            false => drop(begun.wait(END).success()),
        }
    }
    running
}

#[test]
fn the_services_go_on_with_what_the_store_has_when_the_volume_is_lost() {
    let file: Value = serde_yaml::from_str(&example("minio/compose.yaml")).unwrap();
    let services = &file["services"];
    let machine = Machine::new("docker", &["/data"]);
    let script = services["bucket"]["entrypoint"][2].as_str().unwrap();
    let (_, bucket) = script.trim().rsplit_once("mc mb --ignore-existing local/").unwrap();
    machine.moto.create_bucket(bucket);

    for counted in ["1 visits", "2 visits"] {
        let running = up(&machine, services);
        assert_eq!(running.len(), 2);
        assert_eq!(visit(machine.port("8080")), counted);
        let ready = || status(machine.port("9090"), "/readyz") == Some(200);
        wait_until("it is ready", SOON, ready);
        running.into_iter().for_each(terminate);
        lose(&machine.path("/data"));
    }
    let said = machine.type_in(&block(&example("minio/README.md"), "sh")).stdout;
    assert!(said.starts_with("txid "), "{said}");
    let restored = machine.folder.join("visits.db");
    assert_eq!(machine.query(restored.to_str().unwrap(), "SELECT count(*) FROM visit"), "2");
}

#[test]
fn the_application_is_stopped_first_and_walstream_gets_the_time_to_end() {
    let file: Value = serde_yaml::from_str(&example("minio/compose.yaml")).unwrap();
    let order: Vec<&str> = in_order(&file["services"]).into_iter().map(|(name, _)| name).collect();
    let place = |name: &str| order.iter().position(|found| *found == name).unwrap();
    let places = ["minio", "bucket", "restore", "walstream", "visits"].map(place);
    assert!(places.is_sorted() && place("folder") < place("restore"), "{order:?}");
    // walstream tries for 30 s to upload what is left.
    assert_eq!(file["services"]["walstream"]["stop_grace_period"], "60s");
}

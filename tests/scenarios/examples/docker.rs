//! `examples/docker`, without the container around it; `tests/images` runs that.

use super::{Machine, example, lose, terminate, visit};

/// The entrypoint of the Dockerfile.
fn entrypoint() -> Vec<String> {
    let dockerfile = example("docker/Dockerfile");
    let line = dockerfile.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_container_with_an_empty_disk_goes_on_where_the_one_before_ended() {
    let mut machine = Machine::new("docker", &["/data"]);
    machine.set("REPLICA_URL", machine.here("s3://my-bucket/visits"));
    machine.set("LITESTREAM_CONFIG", machine.folder.join("litestream.yml").display().to_string());
    let port = machine.port("8080");

    for counted in ["1 visits", "2 visits", "3 visits"] {
        let container = walstream_test_support::Running::start(&mut machine.command(&entrypoint()));
        assert_eq!(visit(port), counted);
        terminate(container);
        lose(&machine.path("/data"));
    }
}

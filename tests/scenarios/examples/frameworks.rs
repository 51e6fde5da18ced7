//! `examples/frameworks`: Django and Node are run with the settings and commands of their documents.

use std::fs;

use walstream_test_support::{Tool, tool, wait_until};

use super::{END, Machine, block, blocks, example, status, terminate};
use crate::site::SOON;

/// What the replica restores to.
fn restored(machine: &Machine) -> String {
    machine.type_in("walstream restore -force -o restored.db s3://my-bucket/app");
    machine.folder.join("restored.db").display().to_string()
}

#[test]
fn django_migrates_serves_and_ends_with_everything_on_the_replica() {
    let mut machine = Machine::new("frameworks", &["/var/lib/app"]);
    let programs = tool(Tool::Django);
    let (folder, port) = (programs.parent().unwrap(), machine.port("8080"));
    let django = example("frameworks/django.md");
    machine.set("GUNICORN_CMD_ARGS", format!("--bind 127.0.0.1:{port}"));
    machine.put("python manage.py", format!("{} manage.py", folder.join("python").display()));
    machine.put("gunicorn app.wsgi", format!("{} app.wsgi", folder.join("gunicorn").display()));
    machine.type_in(&format!("{} startproject app .", programs.display()));
    let settings = machine.folder.join("app/settings.py");
    let said = fs::read_to_string(&settings).unwrap() + &machine.here(&block(&django, "python settings.py"));
    fs::write(&settings, said).unwrap();

    let server = machine.begin(&block(&django, "sh"));
    // Nothing has been made that it could show but its own administration.
    wait_until("it serves", SOON, || status(port, "/admin/login/") == Some(200));
    let database = "/var/lib/app/db.sqlite3";
    assert_eq!(machine.query(database, "PRAGMA journal_mode"), "wal");
    let asked = "python manage.py shell -c \"
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    print([cursor.execute(f'PRAGMA {name}').fetchone()[0] for name in ('busy_timeout', 'synchronous', 'foreign_keys')])\"";
    assert!(machine.type_in(asked).stdout.contains("[5000, 1, 1]"));
    machine.type_in("python manage.py shell -c \"from django.contrib.auth.models import User; User.objects.create_user('last')\"");
    terminate(server);
    let restored = restored(&machine);
    assert_eq!(machine.query(&restored, "SELECT username FROM auth_user"), "last");
}

#[test]
fn node_writes_and_ends_with_everything_on_the_replica() {
    let machine = Machine::new("frameworks", &["/var/lib/app"]);
    let node = example("frameworks/node.md");
    machine.install("node", tool(Tool::Node));
    fs::write(machine.folder.join("app.mjs"), machine.here(&block(&node, "js app.mjs"))).unwrap();
    for visits in ["1", "2"] {
        machine.begin(&block(&node, "sh")).wait(END).success();
        let restored = restored(&machine);
        assert_eq!(machine.query(&restored, "SELECT count(*) FROM visit"), visits);
    }
    assert_eq!(machine.query("/var/lib/app/app.db", "PRAGMA journal_mode"), "wal");
}

#[test]
fn the_command_for_go_runs_the_program() {
    let machine = Machine::new("frameworks", &["/var/lib/app", "/usr/local/bin"]);
    let program = machine.path("/usr/local/bin/app");
    let script = format!(
        "#!/bin/sh\nsqlite3 {} 'CREATE TABLE said (x); INSERT INTO said VALUES (\"'\"$*\"'\")'\n",
        machine.here("/var/lib/app/app.db")
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    machine.begin(&block(&example("frameworks/go.md"), "sh")).wait(END).success();
    let restored = restored(&machine);
    assert_eq!(machine.query(&restored, "SELECT x FROM said"), machine.here("-addr :8080"));
}

#[test]
fn the_configurations_are_valid() {
    let machine = Machine::new("frameworks", &[]);
    for configuration in blocks(&example("frameworks/rails.md"), "yaml litestream.yml") {
        fs::write(machine.folder.join("litestream.yml"), configuration).unwrap();
        machine.type_in("walstream config check -config litestream.yml");
    }
    for kind in ["yaml database.yml", "yaml deploy.yml"] {
        let text = block(&example("frameworks/rails.md"), kind);
        serde_yaml::from_str::<serde_json::Value>(&text).unwrap();
    }
}

#[test]
fn every_framework_has_its_document() {
    let table = example("frameworks/README.md");
    for name in ["rails", "django", "go", "node"] {
        assert!(table.contains(&format!("]({name}.md)")));
        assert!(example(&format!("frameworks/{name}.md")).contains("walstream"));
    }
}

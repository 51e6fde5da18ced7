//! An application in a process of its own: reads one SQL script per line from standard input, runs it on the database
//! named by the first argument, and answers each with one line: `ok`, `row <first value>` or `error <reason>`.

use std::io::{BufRead, Write};

use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: walstream-test-app DATABASE")?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = answer(&connection, &line?).unwrap_or_else(|error| format!("error {error}"));
        writeln!(answers, "{}", answer.replace('\n', " "))?;
        answers.flush()?;
    }
    Ok(())
}

/// Runs every statement of a script; the answer is the first value of the last row of the last that gives rows.
fn answer(connection: &Connection, script: &str) -> rusqlite::Result<String> {
    let mut answer = "ok".to_owned();
    let mut batch = rusqlite::Batch::new(connection, script);
    while let Some(mut statement) = batch.next()? {
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            answer = match row.get(0)? {
                Value::Null => "row NULL".to_owned(),
                Value::Integer(number) => format!("row {number}"),
                Value::Real(number) => format!("row {number}"),
                Value::Text(text) => format!("row {text}"),
                Value::Blob(bytes) => format!("row blob of {} bytes", bytes.len()),
            };
        }
    }
    Ok(answer)
}

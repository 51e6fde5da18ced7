//! The application of the demo: a shop that sells things and knows nothing of replication.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Result};

/// An open shop.
pub(super) struct Shop {
    connection: Connection,
    sold: u32,
}

/// Everything that a shop database holds, to be compared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// id, name, price in cents, stock
    products: Vec<(i64, String, i64, i64)>,
    /// id, product, time
    orders: Vec<(i64, i64, String)>,
}

const PRODUCTS: [(&str, i64); 5] =
    [("tea", 450), ("coffee", 790), ("mug", 1200), ("kettle", 3900), ("spoon", 250)];

impl Shop {
    /// Creates the database.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, price_cents INTEGER, stock INTEGER);
             CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER, at TEXT);
             CREATE INDEX orders_by_product ON orders (product);",
        )?;
        for (name, price) in PRODUCTS {
            let sql = "INSERT INTO products (name, price_cents, stock) VALUES (?1, ?2, 10000)";
            connection.execute(sql, (name, price))?;
        }
        Ok(Shop { connection, sold: 0 })
    }

    /// Sells one thing every few milliseconds, each in a transaction of its own.
    pub(super) fn sell_for(&mut self, time: Duration) -> Result<u32> {
        let started = Instant::now();
        let before = self.sold;
        while started.elapsed() < time {
            self.sell()?;
            std::thread::sleep(Duration::from_millis(4));
        }
        Ok(self.sold - before)
    }

    fn sell(&mut self) -> Result<()> {
        let product = i64::from(self.sold) % PRODUCTS.len() as i64 + 1;
        let sale = self.connection.transaction()?;
        sale.execute("UPDATE products SET stock = stock - 1 WHERE id = ?1", [product])?;
        sale.execute(
            "INSERT INTO orders (product, at) VALUES (?1, strftime('%Y-%m-%dT%H:%M:%fZ'))",
            [product],
        )?;
        sale.commit()?;
        self.sold += 1;
        Ok(())
    }

    /// The statement that somebody should not have run.
    pub(super) fn delete_every_order(&self) -> Result<()> {
        self.connection.execute("DELETE FROM orders", ()).map(|_| ())
    }

    /// What the shop holds now.
    pub(super) fn contents(&self) -> Result<Contents> {
        contents(&self.connection)
    }
}

impl Contents {
    /// How many orders there are.
    pub(super) fn orders(&self) -> usize {
        self.orders.len()
    }
}

/// Reads a restored shop, after SQLite has checked all of it.
pub(super) fn inspect(path: &Path) -> Result<Contents> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => contents(&connection),
        _ => Err(rusqlite::Error::InvalidColumnName(verdict)),
    }
}

fn contents(connection: &Connection) -> Result<Contents> {
    let mut products = connection.prepare("SELECT id, name, price_cents, stock FROM products ORDER BY id")?;
    let mut orders = connection.prepare("SELECT id, product, at FROM orders ORDER BY id")?;
    Ok(Contents {
        products: products
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
            .collect::<Result<_>>()?,
        orders: orders
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_>>()?,
    })
}

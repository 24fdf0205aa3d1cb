//! `make bench`: what the hop over the relay costs, beside the direct connection to the
//! same server and beside two re-exporters of the field, in one run. Ratios, no verdict:
//! the machine may be busy, so the ways take turns, and the median of the rounds counts.
//!
//! The server is nbdkit's memory plugin on TCP; the re-exporters listen on Unix
//! sockets, as the relay's end of its pair is one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    unreachable_pub,
    missing_docs,
    reason = "it is no part of the program"
)]

#[path = "../../tests/relay/rig.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod rig;

mod load;
mod ways;

use std::time::Duration;

use load::{Load, Workload};
use ways::Ways;

const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_millis(600);

fn main() {
    // `cargo test --benches` only wants to see it begin.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut ways = Ways::start();
    println!("of the direct connection; CPU time of the way alone, for each request\n");
    print!("{:<24}{:>12}", "", "direct");
    for name in ways.names().skip(1) {
        print!("{name:>20}");
    }
    println!();
    for workload in Workload::ALL {
        let mut rates = vec![Vec::new(); ways.count()];
        let mut cpu = vec![Vec::new(); ways.count()];
        for round in 0..ROUNDS {
            for turn in 0..ways.count() {
                let which = (round + turn) % ways.count();
                let before = ways.cpu_time(which);
                let load = Load::run(ways.socket(which), workload, TURN);
                let spent = ways.cpu_time(which) - before;
                rates[which].push(load.per_second());
                cpu[which].push(spent.as_secs_f64() * 1e6 / load.requests as f64);
            }
        }
        let rates: Vec<f64> = rates.into_iter().map(median).collect();
        print!("{:<24}{:>10.0}/s", workload.name, rates[0]);
        for (rate, cpu) in rates.iter().zip(cpu).skip(1) {
            print!("{:>11.2}{:>6.1} µs", rate / rates[0], median(cpu));
        }
        println!();
    }
    println!();
    for depth in [1, 16] {
        let workload = Workload::random_read(depth);
        print!("system calls for a 4 KiB read at depth {depth}:");
        for which in 1..ways.count() {
            let name = ways.names().nth(which).unwrap().to_owned();
            match ways.calls_per_request(which, workload) {
                Some(calls) => print!("  {name} {calls:.1}"),
                None => print!("  {name} (no strace)"),
            }
        }
        println!();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

//! What Bindery costs, measured side by side with what it could cost at least.
//!
//! `cargo bench --bench http -- [--bindings 10000,1000000] [--seconds S] [--only lookups|binds|size|meanwhile]`
//! starts the real executable on one core, loads it from another, and prints Markdown for
//! `docs/performance.md`. Lookups run beside a handler that reads the same request and returns a
//! constant, binds beside plain redb on the same disk, in turns within one run: absolute figures
//! depend on the machine and on its neighbours, the ratios much less. Everything is on loopback, in
//! a temporary directory; every answer is checked, and a wrong one ends the run with status 1.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod binds;
mod constant;
mod data;
mod load;
mod lookups;
mod meanwhile;
mod process;
mod raw;
mod size;
mod tables;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};

use self::data::Data;

/// What was asked for.
struct Arguments {
    bindings: Vec<u64>,
    /// How long each side of each comparison is measured, all rounds together.
    time: Duration,
    only: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut arguments =
            Self { bindings: vec![10_000, 1_000_000], time: Duration::from_secs(4), only: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--bindings" => {
                    arguments.bindings = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--seconds" => arguments.time = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--only" => {
                    let part = value()?;
                    if !["lookups", "binds", "size", "meanwhile"].contains(&part.as_str()) {
                        bail!("--only takes lookups, binds, size or meanwhile, not {part}");
                    }
                    arguments.only = Some(part);
                }
                // What `cargo bench` adds.
                "--bench" => {}
                other => bail!("there is no argument {other}"),
            }
        }
        if arguments.bindings.iter().any(|&bindings| bindings < data::FEWEST) {
            bail!("--bindings: at least {}", data::FEWEST);
        }
        Ok(arguments)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

fn run(words: Vec<String>) -> anyhow::Result<()> {
    if let [mode, port] = words.as_slice()
        && mode == constant::MODE
    {
        return constant::serve(port.parse()?);
    }
    let command = format!("cargo bench --bench http -- {}", words.join(" ").replace("--bench", ""));
    let arguments = Arguments::parse(words.into_iter())?;
    let (mut lookup_rows, mut bind_rows, mut size_rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut meanwhile_rows = Vec::new();
    for &bindings in &arguments.bindings {
        eprintln!("{bindings} bindings: filling the database");
        let data = Data::fill(bindings)?;
        if arguments.wants("lookups") {
            lookup_rows.extend(lookups::measure(&data, arguments.time)?);
        }
        if arguments.wants("size") {
            size_rows.push(size::measure(&data, arguments.time)?);
        }
        if arguments.wants("binds") {
            bind_rows.extend(binds::measure(&data, arguments.time)?);
        }
        // Last, since the pepper is another one afterwards.
        if arguments.wants("meanwhile") {
            meanwhile_rows.extend(meanwhile::measure(data, arguments.time)?);
        }
    }
    println!("```sh\n{}\n```\n\n{}\n", command.trim_end(), process::machine());
    tables::print("Lookups", lookups::NOTE, lookups::HEAD, &lookup_rows);
    tables::print("Lookups meanwhile", meanwhile::NOTE, meanwhile::HEAD, &meanwhile_rows);
    tables::print("Durable binds", binds::NOTE, binds::HEAD, &bind_rows);
    tables::print("Size and start", size::NOTE, size::HEAD, &size_rows);
    Ok(())
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

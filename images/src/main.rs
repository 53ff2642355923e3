//! The host tool `skiff`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use skiff_images::arguments::{Arguments, CommandArguments, ImageArguments, RunArguments};
use skiff_images::{Error, bench, dongle_command, image, oracle, report, run};

/// Every ping was answered.
const ANSWERED: u8 = 0;
/// Pings were lost, or the guest died.
const LOST: u8 = 1;
/// The arguments do not go together.
const USAGE: u8 = 2;
/// Nothing could be started.
const NOT_STARTED: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => do_run(&arguments.run),
        Some(CommandArguments::Run(arguments)) => do_run(&arguments),
        Some(CommandArguments::Image(arguments)) => do_image(&arguments),
        Some(CommandArguments::Bench(arguments)) => bench::bench(&arguments).map(|text| {
            print!("{text}");
            ANSWERED
        }),
        Some(CommandArguments::Oracle(arguments)) => {
            oracle::run(&arguments).map(|content| if content { ANSWERED } else { LOST })
        }
        Some(CommandArguments::Dongle(arguments)) => dongle_command::run(&arguments).map(|()| ANSWERED),
    };
    let status = result.unwrap_or_else(|error| {
        eprintln!("skiff: {error}");
        if matches!(error, Error::Usage(_)) { USAGE } else { NOT_STARTED }
    });
    ExitCode::from(status)
}

fn do_run(arguments: &RunArguments) -> Result<u8, Error> {
    let outcome = run::run(arguments)?;
    let answered = outcome.report.as_ref().is_some_and(report::Report::all_answered);
    match &outcome.report {
        Some(report) if arguments.json => println!("{}", report.to_json()),
        Some(report) => print!("{report}"),
        None => {}
    }
    if let Some(failure) = &outcome.failure {
        eprintln!("skiff: {failure}");
    }
    Ok(if answered && outcome.failure.is_none() { ANSWERED } else { LOST })
}

fn do_image(arguments: &ImageArguments) -> Result<u8, Error> {
    let image = image::write(&arguments.out, arguments.drivers, &arguments.cmdline)?;
    println!(
        "{}: {} bytes; with symbols: {}",
        image.stripped.display(),
        report::grouped(image.bytes),
        image.unstripped.display()
    );
    Ok(ANSWERED)
}

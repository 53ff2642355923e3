//! The host tool `skiff`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use skiff_images::arguments::{Arguments, CommandArguments, ImageArguments, RunArguments};
use skiff_images::error::exit_status;
use skiff_images::{Error, bench, dongle_command, image, oracle, report, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => do_run(&arguments.run),
        Some(CommandArguments::Run(arguments)) => do_run(&arguments),
        Some(CommandArguments::Image(arguments)) => do_image(&arguments),
        Some(CommandArguments::Bench(arguments)) => bench::bench(&arguments).map(|text| {
            print!("{text}");
            exit_status::DONE
        }),
        Some(CommandArguments::Oracle(arguments)) => {
            oracle::run(&arguments).map(|content| if content { exit_status::DONE } else { exit_status::LOST })
        }
        Some(CommandArguments::Dongle(arguments)) => {
            dongle_command::run(&arguments).map(|()| exit_status::DONE)
        }
    };
    let status = result.unwrap_or_else(|error| {
        eprintln!("skiff: {error}");
        error.exit_status()
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
    match &outcome.failure {
        Some(failure) => {
            eprintln!("skiff: {failure}");
            // It was started.
            let without_address = matches!(failure, Error::NoAddress { .. });
            Ok(if without_address { exit_status::NO_ADDRESS } else { exit_status::LOST })
        }
        None => Ok(if answered { exit_status::DONE } else { exit_status::LOST }),
    }
}

fn do_image(arguments: &ImageArguments) -> Result<u8, Error> {
    let image = image::write(&arguments.out, arguments.drivers, &arguments.cmdline)?;
    println!(
        "{}: {} bytes; with symbols: {}",
        image.stripped.display(),
        report::grouped(image.bytes),
        image.unstripped.display()
    );
    Ok(exit_status::DONE)
}

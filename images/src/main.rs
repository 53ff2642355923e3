//! The host tool `skiff`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use skiff_images::arguments::{Arguments, CommandArguments, ImageArguments, RunArguments};
use skiff_images::error::exit_status;
use skiff_images::{Error, bench, dongle_command, image, oracle, output, report, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => do_run(&arguments.run),
        Some(CommandArguments::Run(arguments)) => do_run(&arguments),
        Some(CommandArguments::Image(arguments)) => do_image(&arguments),
        Some(CommandArguments::Bench(arguments)) => bench::bench(&arguments).map(|text| {
            output::line(text.trim_end());
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
        output::note(&error);
        error.exit_status()
    });
    ExitCode::from(status)
}

fn do_run(arguments: &RunArguments) -> Result<u8, Error> {
    let outcome = run::run(arguments)?;
    let answered = outcome.report.as_ref().is_some_and(report::Report::all_answered);
    match &outcome.report {
        Some(report) if arguments.json => output::line(report.to_json()),
        Some(report) => output::line(report.to_string().trim_end()),
        None => {}
    }
    match &outcome.failure {
        Some(failure) => {
            output::note(failure);
            Ok(match failure {
                Error::NoGuest(_) | Error::NoAddress { .. } => failure.exit_status(),
                // It was started.
                _ => exit_status::LOST,
            })
        }
        None => Ok(if answered { exit_status::DONE } else { exit_status::LOST }),
    }
}

fn do_image(arguments: &ImageArguments) -> Result<u8, Error> {
    let image = image::write(&arguments.out, arguments.drivers, &arguments.cmdline)?;
    output::line(format_args!(
        "{}: {} bytes; with symbols: {}",
        image.stripped.display(),
        report::grouped(image.bytes),
        image.unstripped.display()
    ));
    Ok(exit_status::DONE)
}

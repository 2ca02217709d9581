use clap::Parser;

use super::*;
use crate::cli::import::refused::Reason;
use crate::cli::import::source;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    import: ImportArgs,
}

/// A run over two files.
fn run() -> Run {
    let args = Flags::parse_from(["import", "one", "two", "--quiet"]).import;
    let stdin = source::check(&["-".into()]).unwrap().remove(0);
    let named = |name: &str| {
        let mut source = stdin.clone();
        source.name = name.to_owned();
        source
    };
    Run::new(&args, &[named("one"), named("two")], None, Display::Quiet)
}

fn refused(line: u64) -> RefusedLine {
    RefusedLine {
        line,
        reasons: vec![Reason::of_line("required", "is missing")],
        event: None,
    }
}

fn failure(run: &Run) -> (ExitStatus, String) {
    let failure = run.result().unwrap_err();
    (failure.status, failure.to_string())
}

#[test]
fn of_several_refused_lines_the_first_of_the_input_is_told() {
    let run = run();
    run.refuse(1, &[refused(3)], 1).unwrap_err();
    run.refuse(0, &[refused(900), refused(70)], 2).unwrap_err();
    run.refuse(0, &[refused(80)], 1).unwrap_err();
    run.interrupt();
    let (status, text) = failure(&run);
    assert_eq!(status, ExitStatus::Data);
    assert!(
        text.starts_with("one:70: is missing (and 1 more in the same request)\nstopped: one: no line"),
        "{text}"
    );
}

#[test]
fn ctrl_c_is_not_blamed_on_what_it_leads_to() {
    let run = run();
    run.interrupt();
    run.refuse(0, &[refused(1)], 1).unwrap_err();
    run.stop_at_foreign_answer("404");
    assert_eq!(failure(&run).0, ExitStatus::Interrupted);
}

#[test]
fn a_file_that_ends_too_early_is_told_after_all_others_are_sent() {
    let run = run();
    let error = anyhow!("two: cannot be read after line 0");
    run.input_failed(InputFailure {
        failure: Failure::new(ExitStatus::Io, error),
        is_content: false,
    });
    run.accepted(5);
    run.lines_done(0, 1, 5);
    run.file_read(0, 5);
    let (status, text) = failure(&run);
    assert_eq!(status, ExitStatus::Io);
    assert!(
        text.contains("stopped: 1 file is complete; two: no line is known"),
        "{text}"
    );
    assert!(text.contains("in all); run the same command again"), "{text}");
}

#[test]
fn only_a_complete_run_has_a_summary() {
    let run = run();
    run.accepted(5);
    run.lines_done(0, 1, 5);
    run.file_read(0, 5);
    assert_eq!(failure(&run).0, ExitStatus::Software, "the second file is missing");
    run.file_read(1, 0);
    let summary = run.result().unwrap();
    assert!(summary.starts_with("5 events accepted from 2 files in "), "{summary}");
}

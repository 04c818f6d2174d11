//! Tests of what reads and judges instruction counts (`benches/instructions`): a benchmark has none of its own.

#[path = "../benches/instructions/baseline.rs"]
mod baseline;
#[path = "../benches/instructions/callgrind.rs"]
mod callgrind;

use baseline::{Baseline, BaselineError, Cost, Row, Verdict, compare};
use callgrind::instructions;

#[test]
fn only_the_programs_own_instructions_count() {
    let dump = "\
# callgrind format
version: 1
events: Ir
summary: 230

ob=/t/bench
fl=/t/main.rs
fn=shardcast_counted
12 5
13 7
cob=/lib/libc.so.6
cfi=???
cfn=malloc
calls=3 0
14 90
15 1
fn=memcpy
20 40

ob=/lib/libc.so.6
fn=malloc
0 90

ob=/t/bench
fn=mux
7 100
";
    assert_eq!(instructions(dump, "/t/bench", &["memcpy"]), 5 + 7 + 1 + 100);
    assert_eq!(instructions(dump, "/t/bench", &[]), 5 + 7 + 1 + 40 + 100);
    assert_eq!(instructions(dump, "/t/other", &[]), 0);
}

fn baseline(machine: &str, rows: &[(&str, f64, f64, f64)]) -> Baseline {
    let row = |&(name, instructions, allocations, bytes): &(&str, f64, f64, f64)| Row {
        name: name.to_owned(),
        cost: Cost { instructions, allocations, bytes },
        unit: "frame and viewer".to_owned(),
    };
    Baseline { machine: machine.to_owned(), rows: rows.iter().map(row).collect() }
}

#[test]
fn what_is_accepted_is_read_again() {
    let written = baseline("rustc 1.95.0, x86_64, avx2", &[("mux/flv", 1234.5, 0.0, 8000.25), ("ring/push", 7.0, 1.5, 0.0)]);
    assert_eq!(Baseline::parse(&written.to_string()), Ok(written));
    assert_eq!(Baseline::parse("# nothing\n"), Err(BaselineError::NoMachine));
    assert_eq!(Baseline::parse("machine m\nmux/flv 1 2\n"), Err(BaselineError::Line(2)));
    assert_eq!(Baseline::parse("machine m\n\nmux/flv 1 2 x frame\n"), Err(BaselineError::Line(3)));
}

#[test]
fn growth_past_five_percent_fails() {
    use Verdict::{Better, Well, Worse};
    let cases = [
        ("as it was", (1000.0, 2.0, 800.0), (1000.0, 2.0, 800.0), Well),
        ("five percent", (1000.0, 2.0, 800.0), (1050.0, 2.1, 840.0), Well),
        ("more instructions", (1000.0, 2.0, 800.0), (1051.0, 2.0, 800.0), Worse),
        ("more allocations", (1000.0, 2.0, 800.0), (1000.0, 3.0, 800.0), Worse),
        ("more copies", (1000.0, 2.0, 800.0), (1000.0, 2.0, 1600.0), Worse),
        ("the first allocation", (1000.0, 0.0, 0.0), (1000.0, 1.0, 0.0), Worse),
        ("a difference of rounding", (1000.0, 0.0, 0.0), (1000.0, 0.005, 0.0), Well),
        ("fewer instructions", (1000.0, 2.0, 800.0), (900.0, 2.0, 800.0), Better),
        ("fewer instructions, more copies", (1000.0, 2.0, 800.0), (900.0, 2.0, 1600.0), Worse),
    ];
    for (what, before, now, verdict) in cases {
        let of = |(instructions, allocations, bytes)| baseline("m", &[("a/b", instructions, allocations, bytes)]);
        assert_eq!(compare(&of(before), &of(now)).verdict(), verdict, "{what}");
    }
}

#[test]
fn a_case_that_is_new_or_gone_fails() {
    let (one, two) = (baseline("m", &[("a/b", 1.0, 0.0, 0.0)]), baseline("m", &[("a/b", 1.0, 0.0, 0.0), ("a/c", 1.0, 0.0, 0.0)]));
    assert_eq!(compare(&one, &one).verdict(), Verdict::Well);
    for (before, now, said) in [(&one, &two, "NOT IN THE BASELINE"), (&two, &one, "IN THE BASELINE ONLY")] {
        let comparison = compare(before, now);
        assert_eq!(comparison.verdict(), Verdict::Worse);
        assert!(comparison.to_string().contains(said), "{comparison}");
    }
}

#[test]
fn with_another_compiler_only_allocations_are_judged() {
    let before = baseline("rustc 1.95.0", &[("a/b", 1000.0, 1.0, 800.0)]);
    let same = compare(&before, &baseline("rustc 1.96.0", &[("a/b", 2000.0, 1.0, 1600.0)]));
    assert_eq!(same.verdict(), Verdict::Well);
    assert!(same.to_string().contains("not judged"), "{same}");
    let more = compare(&before, &baseline("rustc 1.96.0", &[("a/b", 1000.0, 2.0, 800.0)]));
    assert_eq!(more.verdict(), Verdict::Worse);
}

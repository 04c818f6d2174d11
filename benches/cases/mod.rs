//! What is measured: one list of cases for `time` (criterion) and `instructions` (callgrind).
//!
//! A case is set up once and then called again and again; a call does so many units of work, most often a group of [`GROUP`] frames. No call
//! makes a system call, reads a clock or waits, and each does the same work as every other. Not here: how the work is measured.

mod chunk;
mod demux;
mod ingest;
mod lane;
mod media;
mod mux;
mod ring;
mod text;
mod turn;

/// Frames per call of most cases: two seconds of pictures, the first of them a key picture.
pub const GROUP: usize = 60;
/// Input that cannot be repeated (its clock or its numbers go on) is prepared for so many calls; then its reader begins anew.
pub const CALLS_PREPARED: usize = 6;

/// One measured thing.
pub struct Case {
    /// `subject/variant`.
    pub name: String,
    /// What one unit is.
    pub unit: &'static str,
    pub set_up: Box<dyn Fn() -> Work>,
}

/// A case that has been set up.
pub struct Work {
    /// Units that one call does.
    pub units: f64,
    pub call: Box<dyn FnMut()>,
}

impl Work {
    fn new(units: impl Into<f64>, call: impl FnMut() + 'static) -> Work {
        Work { units: units.into(), call: Box::new(call) }
    }

    fn group(call: impl FnMut() + 'static) -> Work {
        Work::new(GROUP as u32, call)
    }
}

impl Case {
    fn new(name: impl Into<String>, unit: &'static str, set_up: impl Fn() -> Work + 'static) -> Case {
        Case { name: name.into(), unit, set_up: Box::new(set_up) }
    }
}

/// All cases, in the order of the baseline.
pub fn all() -> Vec<Case> {
    let subjects = [
        chunk::cases(),
        ingest::cases(),
        mux::cases(),
        demux::cases(),
        ring::cases(),
        turn::cases(),
        lane::cases(),
        text::cases(),
    ];
    subjects.into_iter().flatten().collect()
}

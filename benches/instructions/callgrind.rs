//! A dump of callgrind → the instructions that a program executed itself.
//!
//! Valgrind manual, "Callgrind Format Specification". Expects names written out (`--compress-strings=no`). Costs of the C library and the dynamic
//! linker stand under objects of their own and are left out: they depend on the machine. Costs of calls are those of what is called, which
//! stands in the dump by itself.

/// Of the functions of `object`, without those named in `uncounted`.
pub fn instructions(dump: &str, object: &str, uncounted: &[&str]) -> u64 {
    let (mut is_own, mut is_counted, mut is_call) = (false, true, false);
    let mut sum = 0;
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            is_own = name == object;
        } else if let Some(name) = line.strip_prefix("fn=") {
            is_counted = !uncounted.contains(&name);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) && !std::mem::take(&mut is_call) && is_own && is_counted
        {
            // The position in the source, then the cost; no cost is a cost of zero.
            sum += line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}

//! What one media playlist must keep by itself.
//!
//! Spec: RFC 8216bis §4.4 by tag, §6.2.2 (live playlists), Appendix B (low latency).

use super::Fault;
use super::playlist::{Media, Segment};

/// Durations are written with a few digits.
pub const ROUNDING: f64 = 0.001;
/// How far two dates may be off the media between them: they are written with milliseconds, and media times jitter.
pub const DATE_SLACK: f64 = 0.05;
/// Share of the part target that a part has at least.
const PART_SHARE_MIN: f64 = 0.85;

/// The first rule that is broken.
pub fn check(list: &Media) -> Result<(), Fault> {
    let rules = [version, target, map, dates, parts, part_age, control, hint, uris];
    rules.iter().try_for_each(|rule| rule(list))
}

fn ensure(holds: bool, fault: impl FnOnce() -> Fault) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault()) }
}

fn version(list: &Media) -> Result<(), Fault> {
    let (version, tag) = list.version_min;
    ensure(list.version >= version, || format!("§8: version {}, but {tag} needs {version}", list.version))
}

fn target(list: &Media) -> Result<(), Fault> {
    let longest = list.segments.iter().map(|segment| segment.duration).fold(0.0, f64::max);
    ensure(longest.round() <= f64::from(list.target), || {
        format!("§4.4.3.1: a segment of {longest} s, the target is {} s", list.target)
    })
}

fn is_ts(segment: &Segment) -> bool {
    segment.uri.split('?').next().is_some_and(|path| path.ends_with(".ts"))
}

fn map(list: &Media) -> Result<(), Fault> {
    let mut before: Option<&Segment> = None;
    for segment in &list.segments {
        ensure(is_ts(segment) == segment.map.is_none() || list.skipped > 0, || {
            format!("§3.1: {}: fMP4 has a map, and TS has none: {:?}", segment.uri, segment.map)
        })?;
        let is_changed = before.is_some_and(|before| before.map != segment.map);
        ensure(!is_changed || segment.discontinuity, || {
            format!("§4.4.4.5: {} has another map without a discontinuity", segment.uri)
        })?;
        before = Some(segment);
    }
    Ok(())
}

fn dates(list: &Media) -> Result<(), Fault> {
    let mut expected = None;
    for (at, segment) in list.segments.iter().enumerate() {
        let is_start = at == 0 && list.skipped == 0 || segment.discontinuity;
        ensure(!is_start || segment.date.is_some(), || format!("§4.4.4.6: {} begins a run without a date", segment.uri))?;
        if let (Some(date), Some(expected), false) = (segment.date, expected, segment.discontinuity) {
            let off: f64 = date - expected;
            ensure(off.abs() <= DATE_SLACK, || format!("§6.2.1: the date of {} is {off:.3} s off", segment.uri))?;
        }
        expected = segment.date.or(expected).map(|date| date + segment.duration);
    }
    Ok(())
}

fn parts(list: &Media) -> Result<(), Fault> {
    let Some(target) = list.part_target else {
        let none = list.segments.iter().chain([&list.open]).all(|segment| segment.parts.is_empty());
        return ensure(none && list.hint.is_none(), || "§4.4.3.7: parts without EXT-X-PART-INF".to_owned());
    };
    let followers = list.segments.iter().skip(1).chain([&list.open]);
    for (segment, follower) in list.segments.iter().zip(followers) {
        let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
        ensure(segment.parts.is_empty() || (sum - segment.duration).abs() <= ROUNDING, || {
            format!("§4.4.4.9: the parts of {} last {sum:.5} s, EXTINF says {}", segment.uri, segment.duration)
        })?;
        let free = 1 + usize::from(follower.discontinuity);
        part_durations(segment, target, free)?;
        first_part(segment, list)?;
    }
    part_durations(&list.open, target, usize::from(list.ended))?;
    first_part(&list.open, list)
}

/// `free`: how many at the end may be short.
fn part_durations(segment: &Segment, target: f64, free: usize) -> Result<(), Fault> {
    let full = segment.parts.len().saturating_sub(free);
    for (at, part) in segment.parts.iter().enumerate() {
        ensure(part.duration <= target + 1e-9, || format!("§4.4.3.7: {} lasts {} of {target} s", part.uri, part.duration))?;
        ensure(at >= full || part.duration >= target * PART_SHARE_MIN - 1e-9, || {
            format!("§4.4.4.9: {} lasts {} s, less than 85 % of {target} s", part.uri, part.duration)
        })?;
    }
    Ok(())
}

fn first_part(segment: &Segment, list: &Media) -> Result<(), Fault> {
    let first = segment.parts.first();
    ensure(!list.independent || first.is_none_or(|part| part.independent), || {
        format!("§4.4.4.9: {:?} begins an independent segment and is not independent", first)
    })
}

/// Parts stay for three target durations from the end, and not much longer.
fn part_age(list: &Media) -> Result<(), Fault> {
    if list.part_target.is_none() {
        return Ok(());
    }
    let (near, mut age) = (3.0 * f64::from(list.target), list.duration());
    for segment in &list.segments {
        let begin = age;
        age -= segment.duration;
        ensure(begin > near || !segment.parts.is_empty() || list.skipped > 0, || {
            format!("Appendix B.1: {}, {begin:.3} s from the end, has no parts", segment.uri)
        })?;
        ensure(segment.parts.is_empty() || age <= near + f64::from(list.target), || {
            format!("§4.4.4.9: {}, {age:.3} s from the end, still has its parts", segment.uri)
        })?;
    }
    Ok(())
}

fn control(list: &Media) -> Result<(), Fault> {
    let (control, target) = (&list.control, f64::from(list.target));
    if let Some(part_target) = list.part_target {
        let hold = control.part_hold_back.ok_or("§4.4.3.8: parts without PART-HOLD-BACK")?;
        ensure(hold >= 2.0 * part_target - 1e-9, || format!("§4.4.3.8: PART-HOLD-BACK {hold} is below twice {part_target}"))?;
        ensure(hold >= 3.0 * part_target - 1e-9, || {
            format!("§4.4.3.8: PART-HOLD-BACK {hold} should be three times {part_target}")
        })?;
        ensure(control.block_reload, || "Appendix B.1: parts without CAN-BLOCK-RELOAD".to_owned())?;
    }
    if let Some(hold) = control.hold_back {
        ensure(hold >= 3.0 * target, || format!("§4.4.3.8: HOLD-BACK {hold} is below three times {target}"))?;
    }
    if let Some(skip) = control.skip_until {
        ensure(skip >= 6.0 * target, || format!("§4.4.3.8: CAN-SKIP-UNTIL {skip} is below six times {target}"))?;
    }
    ensure(list.skipped == 0 || control.skip_until.is_some(), || "§4.4.5.2: a skip that nobody was promised".to_owned())
}

fn hint(list: &Media) -> Result<(), Fault> {
    let expected = list.part_target.is_some() && !list.ended;
    ensure(list.hint.is_some() == expected, || format!("§4.4.5.3: the hint is {:?}", list.hint))?;
    let has = list
        .segments
        .iter()
        .chain([&list.open])
        .flat_map(|segment| &segment.parts)
        .any(|part| list.hint.as_ref() == Some(&part.uri));
    ensure(!has, || format!("§4.4.5.3: {:?} is announced and there", list.hint))
}

fn uris(list: &Media) -> Result<(), Fault> {
    let parts = list.segments.iter().chain([&list.open]).flat_map(|segment| segment.parts.iter().map(|part| &part.uri));
    let mut all: Vec<&String> = list.segments.iter().map(|segment| &segment.uri).chain(parts).collect();
    all.sort_unstable();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("§6.2.2: {} is listed twice", pair[0])),
        None => Ok(()),
    }
}

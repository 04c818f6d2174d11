//! What a live playlist must keep while it moves on: nothing that was said changes, what goes goes from the front and is counted, and what
//! is announced comes.
//!
//! Spec: RFC 8216bis §6.2.1, §6.2.2 (live playlists), §6.2.5.2 (blocking reload), §6.2.6 (parts).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Fault;
use super::playlist::{Media, Part, Segment};
use super::rules;

/// A segment as it was listed, and its number among discontinuities.
#[derive(Clone, Debug)]
struct Known {
    segment: Segment,
    discontinuities: u64,
    /// Of the longest playlist that had it, in seconds.
    longest_list: f64,
    /// When it was seen to be listed no more, at the latest.
    gone: Option<Instant>,
}

/// How long after the server a player may learn of something.
const LATE: Duration = Duration::from_secs(3);

/// Everything that was ever said, by number.
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<(Instant, Media)>,
    known: BTreeMap<u64, Known>,
    parts: BTreeMap<(u64, usize), Part>,
    /// Between two changes, at most, as the player saw it: it may have been late itself.
    pub longest_silence: Duration,
    /// Times of which the server's answers prove that it had nothing new.
    silences: Vec<(Instant, Instant)>,
    /// Discontinuities and maps seen so far.
    pub discontinuities: usize,
    pub maps: Vec<String>,
}

impl Watch {
    pub fn last(&self) -> Option<&Media> {
        self.last.as_ref().map(|(_, list)| list)
    }

    /// All segments that were ever listed.
    pub fn segments(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.known.iter().map(|(msn, known)| (*msn, &known.segment))
    }

    pub fn parts_seen(&self) -> usize {
        self.parts.len()
    }

    /// The first segment that is listed no more and must still be there: for its own duration and that of the longest playlist that had
    /// it (§6.2.2).
    pub fn owed(&self, now: Instant) -> Option<u64> {
        let is_owed = |known: &Known| {
            let stays = Duration::from_secs_f64(known.segment.duration + known.longest_list).saturating_sub(LATE);
            known.gone.is_some_and(|gone| now.saturating_duration_since(gone) < stays)
        };
        self.known.iter().find(|(_, known)| is_owed(known)).map(|(msn, _)| *msn)
    }

    /// The next playlist, with nothing skipped, which was asked for at `asked` and has come at `at`.
    pub fn push(&mut self, asked: Instant, at: Instant, list: &Media) -> Result<(), Fault> {
        rules::check(list)?;
        if let Some((since, last)) = &self.last {
            moves_on(last, list)?;
            if last == list {
                self.silences.push((*since, asked));
                return Ok(());
            }
            self.silences.push((asked, at));
            self.longest_silence = self.longest_silence.max(at.saturating_duration_since(*since));
        }
        self.keeps_segments(list)?;
        let gone = self.known.range_mut(..list.sequence).filter(|(_, known)| known.gone.is_none());
        gone.for_each(|(_, known)| known.gone = Some(at));
        if let Some((_, last)) = &self.last {
            keeps_parts(last, list)?;
            keeps_hint(last, list)?;
        }
        self.learn_parts(list)?;
        self.last = Some((at, list.clone()));
        Ok(())
    }

    fn keeps_segments(&mut self, list: &Media) -> Result<(), Fault> {
        let (mut discontinuities, longest) = (list.discontinuity_sequence, list.duration());
        for (msn, segment) in list.numbered() {
            discontinuities += u64::from(segment.discontinuity);
            let Some(known) = self.known.get_mut(&msn) else {
                if let Some((other, _)) = self.known.iter().find(|(_, known)| known.segment.uri == segment.uri) {
                    return Err(format!("§6.2.2: {} was number {other} and is {msn}", segment.uri));
                }
                self.discontinuities += usize::from(segment.discontinuity);
                self.maps.extend(segment.map.clone().filter(|map| !self.maps.contains(map)));
                self.known.insert(msn, Known { segment: segment.clone(), discontinuities, longest_list: longest, gone: None });
                continue;
            };
            known.longest_list = known.longest_list.max(longest);
            let (was, is) = (&known.segment, segment);
            if (&was.uri, was.duration, was.discontinuity, &was.map) != (&is.uri, is.duration, is.discontinuity, &is.map) {
                return Err(format!("§6.2.1: segment {msn} was {was:?} and is {is:?}"));
            }
            if let (Some(was), Some(is)) = (was.date, is.date)
                && (was - is).abs() > 1e-3
            {
                return Err(format!("§6.2.1: the date of segment {msn} was {was} and is {is}"));
            }
            if known.discontinuities != discontinuities {
                let was = known.discontinuities;
                return Err(format!("§6.2.2: segment {msn} was behind discontinuity {was} and is behind {discontinuities}"));
            }
        }
        Ok(())
    }

    fn learn_parts(&mut self, list: &Media) -> Result<(), Fault> {
        let open = [(list.next(), &list.open)];
        for (msn, segment) in list.numbered().chain(open) {
            // All parts of a segment are listed, or none.
            for (at, part) in segment.parts.iter().enumerate() {
                let known = self.parts.entry((msn, at)).or_insert_with(|| part.clone());
                if known != part {
                    return Err(format!("§6.2.1: part {at} of segment {msn} was {known:?} and is {part:?}"));
                }
            }
            let more = self.parts.range((msn, segment.parts.len())..(msn + 1, 0)).next();
            if let (Some(((_, at), _)), false) = (more, segment.parts.is_empty()) {
                return Err(format!("§6.2.1: segment {msn} had a part {at}"));
            }
        }
        Ok(())
    }

    /// Fails if the playlist was silent for longer than 1.5 target durations. `lost`: for how long between two moments nothing of the
    /// stream came to anybody.
    pub fn assert_lively(&self, lost: impl Fn(Instant, Instant) -> Duration) -> Result<(), Fault> {
        let target = self.last().map_or(0.0, |list| f64::from(list.target));
        for (from, to) in &self.silences {
            let (silence, lost) = (to.saturating_duration_since(*from), lost(*from, *to));
            if silence.saturating_sub(lost).as_secs_f64() > 1.5 * target {
                return Err(format!("§6.2.1: no update for {silence:?}, {lost:?} of it was lost, the target is {target} s"));
            }
        }
        Ok(())
    }
}

fn moves_on(last: &Media, list: &Media) -> Result<(), Fault> {
    let fixed = |list: &Media| (list.target, list.part_target, list.control);
    if fixed(last) != fixed(list) {
        return Err(format!("§4.4.3.1: {:?} was said, now {:?}", fixed(last), fixed(list)));
    }
    if list.sequence < last.sequence || list.discontinuity_sequence < last.discontinuity_sequence {
        return Err(format!("§4.4.3.2: the sequence goes from {} to {}", last.sequence, list.sequence));
    }
    if list.coming() < last.coming() {
        return Err(format!("§6.2.1: the list ended before {:?}, and ends before {:?} now", last.coming(), list.coming()));
    }
    if last.ended && last != list {
        return Err("§6.2.1: something changes behind the end".to_owned());
    }
    let (removed, window) = (list.sequence - last.sequence, 3.0 * f64::from(list.target));
    let finished: f64 = list.segments.iter().map(|segment| segment.duration).sum();
    if removed > 0 && finished < window {
        return Err(format!("§6.2.2: {removed} segments are gone, and {finished:.3} s are left of {window} s"));
    }
    Ok(())
}

/// A part goes only with those before it, when it is three target durations from the end.
fn keeps_parts(last: &Media, list: &Media) -> Result<(), Fault> {
    let near = 3.0 * f64::from(list.target);
    let mut from_end = list.duration();
    for (msn, segment) in list.numbered() {
        let had = last.segment(msn).map_or(0, |segment| segment.parts.len());
        if segment.parts.len() < had && from_end <= near {
            return Err(format!("§6.2.6: a part of {} has gone, {from_end:.3} s from the end", segment.uri));
        }
        from_end -= segment.duration;
    }
    Ok(())
}

/// What was announced came next, unless the run ended.
fn keeps_hint(last: &Media, list: &Media) -> Result<(), Fault> {
    let (msn, at) = last.coming();
    let (Some(hint), Some(segment)) = (&last.hint, list.segment(msn)) else { return Ok(()) };
    let next = list.segment(msn + 1);
    if list.ended || segment.discontinuity || next.is_some_and(|next| next.discontinuity) {
        return Ok(());
    }
    // A segment that has ended with what was there makes its follower's first part the next one, be it announced only.
    let part = segment.parts.get(at).or_else(|| next.filter(|_| !segment.parts.is_empty())?.parts.first());
    match part.map(|part| &part.uri).or(list.hint.as_ref()) {
        Some(came) if came != hint => Err(format!("§6.2.6: {hint} was announced and {came} came")),
        _ => Ok(()),
    }
}

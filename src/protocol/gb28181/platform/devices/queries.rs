//! Questions to devices (GB/T 28181-2016 §9.5), and the parts of their answers (Annex N): a MESSAGE with a number goes out, MESSAGEs with
//! the same number come in.
//!
//! An answer is complete when as many items have come as its `SumNum` says; what comes twice counts once. What has come is kept where the rest does not: a part is waited
//! for [`PART_MS`], all of them [`QUERY_MS_MAX`]. Limits: [`QUERIES_MAX`], [`QUERIES_PER_DEVICE_MAX`], [`RECORDS_MAX`],
//! [`TICKETS_MAX`], and the bytes of `channels`.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::channels::{CHANNELS_MAX, Extent, is_item};
use super::{Devices, Id, News, Sent, Timer, cut};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{
    self, Body, Control, CruiseName, CruisePoint, DeviceControl, DeviceInfo, DeviceStatus, Elements as _, Item, Message, Outcome,
    Preset, PtzPosition, Record, Response as Answered, Section,
};
use crate::protocol::gb28181::platform::ask::{Answer, Refused, RefusedKind};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::{Output, Ticket};
use crate::protocol::gb28181::sip::message::Response;
use crate::protocol::gb28181::sip::transaction::Failure;

/// How long the next part of an answer is waited for.
pub const PART_MS: u64 = 10_000;
/// How long all parts are waited for.
pub const QUERY_MS_MAX: u64 = 120_000;
/// Questions under way.
pub const QUERIES_MAX: usize = 32_768;
pub const QUERIES_PER_DEVICE_MAX: usize = 32;
/// Records in one answer; more are not kept.
pub const RECORDS_MAX: usize = 10_000;
/// Operators who wait for the same catalog.
pub const TICKETS_MAX: usize = 64;
/// Items of one answer that are told apart; those behind them do not count.
const KNOWN_MAX: usize = 100_000;
/// Presets of a camera, its tracks, and the points of one.
const PRESETS_MAX: usize = 1_024;
/// Alarm inputs in the status of a device.
const ALARM_INPUTS_MAX: usize = 256;
/// Sections of a configuration.
const SECTIONS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Query {
    device: Id,
    wanted: Wanted,
    tickets: Vec<Ticket>,
    due: Stamp,
    ends: Stamp,
    /// Taken for what has come.
    bytes: usize,
}

impl Query {
    pub fn device(&self) -> &Id {
        &self.device
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What is asked for, and what has come of it.
#[derive(Debug)]
pub(super) enum Wanted {
    Catalog(Parts<Item>),
    Info,
    Status,
    Records(Parts<Record>),
    Config {
        kinds: usize,
        sections: Vec<Section>,
    },
    Presets(Parts<Preset>),
    Cruises(Parts<CruiseName>),
    Cruise(CruiseName, Parts<CruisePoint>),
    PtzPosition(PtzPosition),
    /// `answered`: whether the device says what has become of it.
    Control {
        answered: bool,
    },
}

#[derive(Debug)]
pub(super) struct Parts<T> {
    pub items: Vec<T>,
    /// Those that were not kept as well.
    pub seen: usize,
    /// What they are known by, at most [`KNOWN_MAX`].
    known: HashSet<u64>,
    pub sum: Option<u32>,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Parts { items: Vec::new(), seen: 0, known: HashSet::new(), sum: None }
    }
}

impl<T> Parts<T> {
    pub fn is_whole(&self) -> bool {
        self.sum.is_some_and(|sum| self.seen >= sum as usize)
    }
}

impl Wanted {
    /// In words, for an operator.
    const fn words(&self) -> &'static str {
        match self {
            Wanted::Catalog(_) => "its catalog",
            Wanted::Info => "what it is",
            Wanted::Status => "how it is",
            Wanted::Records(_) => "its records",
            Wanted::Config { .. } => "its configuration",
            Wanted::Presets(_) => "its presets",
            Wanted::Cruises(_) => "its cruise tracks",
            Wanted::Cruise(..) => "that cruise track",
            Wanted::PtzPosition(_) => "where it looks",
            Wanted::Control { .. } => "what has become of the command",
        }
    }
}

impl Devices {
    /// Asks a device about itself or a channel.
    pub(super) fn ask_device(
        &mut self,
        context: &mut Context<'_>,
        (id, about): (&Id, &str),
        query: manscdp::Query,
        wanted: Wanted,
        ticket: Option<Ticket>,
    ) -> Result<(), Refused> {
        self.start(context, (id, about), Body::Query(query), wanted, ticket)
    }

    pub(super) fn control_device(
        &mut self,
        context: &mut Context<'_>,
        target: (&Id, &str),
        control: DeviceControl,
        ticket: Ticket,
    ) -> Result<(), Refused> {
        let wanted = Wanted::Control { answered: control.command.is_answered() };
        self.start(context, target, Body::Control(Control::Device(control)), wanted, Some(ticket))
    }

    fn start(
        &mut self,
        context: &mut Context<'_>,
        (id, about): (&Id, &str),
        body: Body,
        wanted: Wanted,
        ticket: Option<Ticket>,
    ) -> Result<(), Refused> {
        let full = |why: &str| Refused { kind: RefusedKind::Full, why: format!("too many questions to {why} are under way") };
        let hop = self.hop(id)?;
        let charset = self.charset(id);
        if self.queries.len() >= QUERIES_MAX {
            return Err(full("devices"));
        }
        if self.by_id.get(id).is_some_and(|device| device.queries.len() >= QUERIES_PER_DEVICE_MAX) {
            return Err(full(&format!("device {id}")));
        }
        let sn = self.next_sn();
        let message = Message { sn, device: about.to_owned(), body };
        let sent = context.send_message(hop, id, &message, charset).ok_or_else(|| full("devices"))?;
        self.sent.insert(sent, Sent::Query(sn));
        let now = context.now();
        let due = now.after_millis(context.settings.answer_ms + wait_ms(context, &wanted));
        self.timers.insert((due, Timer::Query(sn)));
        if let Some(device) = self.by_id.get_mut(id) {
            device.queries.insert(sn);
            device.catalog_query = if matches!(wanted, Wanted::Catalog(_)) { Some(sn) } else { device.catalog_query };
        }
        let ends = now.after_millis(QUERY_MS_MAX);
        let tickets = ticket.into_iter().collect();
        self.queries.insert(sn, Query { device: id.clone(), wanted, tickets, due, ends, bytes: 0 });
        Ok(())
    }

    /// A device that has come: who it is, and what it has.
    pub(super) fn ask_what_it_is(&mut self, context: &mut Context<'_>, id: &Id) {
        let info = self.ask_device(context, (id, id), manscdp::Query::DeviceInfo, Wanted::Info, None);
        if let Some(device) = self.by_id.get_mut(id) {
            device.channels.begin_tries();
            (device.asked, device.is_unsure) = (Some(context.now()), false);
        }
        let catalog = info.and_then(|()| self.ask_catalog(context, id, None));
        self.note_unasked(context, id, catalog);
    }

    /// A catalog that has not come whole.
    pub(super) fn ask_again(&mut self, context: &mut Context<'_>, id: &Id) {
        let Some(device) = self.by_id.get_mut(id) else { return };
        if device.catalog_query.is_none() && device.channels.try_again(context.now()) {
            let asked = self.ask_catalog(context, id, None);
            self.note_unasked(context, id, asked);
        }
    }

    fn note_unasked(&mut self, context: &mut Context<'_>, id: &Id, asked: Result<(), Refused>) {
        if let Err(refused) = asked {
            self.note_fault(context, "gb28181_not_asked", format!("device {id} is not asked for its catalog: {}", refused.why));
        }
    }

    /// Joins a question that is under way.
    pub(super) fn ask_catalog(&mut self, context: &mut Context<'_>, id: &Id, ticket: Option<Ticket>) -> Result<(), Refused> {
        let under_way = self.by_id.get(id).and_then(|device| device.catalog_query);
        if let Some(query) = under_way.and_then(|sn| self.queries.get_mut(&sn)) {
            if query.tickets.len() >= TICKETS_MAX {
                let why = format!("too many wait for the catalog of device {id}");
                return Err(Refused { kind: RefusedKind::Full, why });
            }
            query.tickets.extend(ticket);
            return Ok(());
        }
        self.ask_device(context, (id, id), manscdp::Query::CATALOG, Wanted::Catalog(Parts::default()), ticket)
    }

    /// The SIP answer to a question.
    pub(super) fn query_answered(&mut self, context: &mut Context<'_>, sn: u64, response: &Response) {
        let Some(query) = self.queries.get_mut(&sn) else { return };
        if !response.is_success() {
            let why = format!("device {} refuses to say {}: {}", query.device, query.wanted.words(), response.words());
            return self.finish(context, sn, Err(Refused { kind: RefusedKind::Device, why }));
        }
        if let Wanted::Control { answered: false } = query.wanted {
            return self.finish(context, sn, Ok(()));
        }
        let due = context.now().after_millis(wait_ms(context, &query.wanted));
        self.reschedule(sn, due);
    }

    pub(super) fn query_failed(&mut self, context: &mut Context<'_>, sn: u64, failure: Failure) {
        let Some(query) = self.queries.get(&sn) else { return };
        let why = format!("device {}: {failure} in {} ms", query.device, context.settings.answer_ms);
        self.finish(context, sn, Err(Refused { kind: RefusedKind::Silent, why }));
    }

    pub(super) fn query_due(&mut self, context: &mut Context<'_>, sn: u64) {
        let Some(query) = self.queries.get(&sn) else { return };
        let why = format!("device {} has taken the question and not said {}", query.device, query.wanted.words());
        self.finish(context, sn, Err(Refused { kind: RefusedKind::Silent, why }));
    }

    fn reschedule(&mut self, sn: u64, due: Stamp) {
        let Some(query) = self.queries.get_mut(&sn) else { return };
        self.timers.remove(&(query.due, Timer::Query(sn)));
        query.due = due.min(query.ends);
        self.timers.insert((query.due, Timer::Query(sn)));
    }

    /// Of a device that has gone.
    pub(super) fn refuse_queries(&mut self, context: &mut Context<'_>, id: &Id, why: &str) {
        for sn in self.by_id.get(id).map(|device| device.queries.clone()).unwrap_or_default() {
            let why = format!("device {id} is offline: {why}");
            self.finish(context, sn, Err(Refused { kind: RefusedKind::Conflict, why }));
        }
    }

    /// An answer, or a part of one.
    pub(super) fn query_part(&mut self, context: &mut Context<'_>, sender: &Id, sn: u64, answered: Answered) {
        let command = answered.command().to_owned();
        let Some(query) = self.queries.get_mut(&sn).filter(|query| query.device == *sender) else {
            let command: String = command.chars().take(40).collect();
            let message = format!("device {sender} answers {command} with number {sn}, which nobody has asked");
            return self.note_fault(context, "gb28181_unasked", message);
        };
        let mut room = Room { bytes: &mut self.bytes, taken: &mut query.bytes };
        let progress = match (&mut query.wanted, answered) {
            (Wanted::Catalog(parts), Answered::Catalog(catalog)) => {
                let items = catalog.items.into_iter();
                parts.add(catalog.sum, items, item_mark, |item, kept| {
                    is_item(item) && kept < CHANNELS_MAX && room.take(item.bytes())
                })
            }
            (Wanted::Records(parts), Answered::RecordInfo(records)) => {
                let items = records.records.into_iter();
                parts.add(records.sum, items, record_mark, |record, kept| kept < RECORDS_MAX && room.take(record.bytes()))
            }
            (Wanted::Presets(parts), Answered::PresetQuery(presets)) => {
                let all = presets.presets.len();
                let sum = presets.sum.or(u32::try_from(all).ok());
                let size = |preset: &Preset| size_of::<Preset>() + preset.id.len() + preset.name.len();
                let fits = |preset: &Preset, kept| kept < PRESETS_MAX && room.take(size(preset));
                parts.add(sum, presets.presets.into_iter(), |_| None, fits)
            }
            (Wanted::Cruises(parts), Answered::CruiseTracks(list)) => {
                let sum = list.sum.or(u32::try_from(list.tracks.len()).ok());
                let size = |track: &CruiseName| size_of::<CruiseName>() + track.name.len();
                let fits = |track: &CruiseName, kept| kept < PRESETS_MAX && room.take(size(track));
                parts.add(sum, list.tracks.into_iter(), |_| None, fits)
            }
            (Wanted::Cruise(name, parts), Answered::CruiseTrack(track)) => {
                let sum = track.sum.or(u32::try_from(track.points.len()).ok());
                if room.take(track.track.name.len()) {
                    name.merge(track.track);
                }
                let fits = |_: &CruisePoint, kept| kept < PRESETS_MAX && room.take(size_of::<CruisePoint>());
                parts.add(sum, track.points.into_iter(), |_| None, fits)
            }
            (Wanted::PtzPosition(position), Answered::PtzPosition(said)) => {
                *position = said;
                Progress::Whole
            }
            (Wanted::Config { kinds, sections }, Answered::ConfigDownload(config)) => {
                let left = SECTIONS_MAX.saturating_sub(sections.len());
                sections.extend(config.sections.into_iter().take(left).filter(|section| room.take(section_bytes(section))));
                if config.result == Some(Outcome::Error) { Progress::Refused } else { whole(sections.len() >= *kinds) }
            }
            (Wanted::Info, Answered::DeviceInfo(info)) => {
                if let Some(device) = self.by_id.get_mut(sender) {
                    device.info = kept_info(info);
                }
                Progress::Whole
            }
            (Wanted::Status, Answered::DeviceStatus(status)) => {
                if let Some(device) = self.by_id.get_mut(sender) {
                    device.status = Some(kept_status(status));
                }
                Progress::Whole
            }
            (Wanted::Control { .. }, Answered::Plain { result, .. }) => match result {
                Some(Outcome::Error) => Progress::Refused,
                Some(Outcome::Ok) | None => Progress::Whole,
            },
            (_, Answered::Plain { result: Some(Outcome::Error), .. }) => Progress::Refused,
            _ => Progress::Part,
        };
        self.progress(context, sn, progress);
    }

    fn progress(&mut self, context: &mut Context<'_>, sn: u64, progress: Progress) {
        match progress {
            Progress::Part => self.reschedule(sn, context.now().after_millis(PART_MS)),
            Progress::Whole => self.finish(context, sn, Ok(())),
            Progress::Refused => {
                let Some(query) = self.queries.get(&sn) else { return };
                let why = format!("device {} says ERROR instead of {}", query.device, query.wanted.words());
                self.finish(context, sn, Err(Refused { kind: RefusedKind::Device, why }));
            }
        }
    }

    /// A question is over: whole, or with what has come, or with nothing.
    fn finish(&mut self, context: &mut Context<'_>, sn: u64, outcome: Result<(), Refused>) {
        let Some(query) = self.queries.remove(&sn) else { return };
        self.timers.remove(&(query.due, Timer::Query(sn)));
        if let Some(device) = self.by_id.get_mut(&query.device) {
            device.queries.remove(&sn);
            device.catalog_query = device.catalog_query.filter(|of_catalog| *of_catalog != sn);
        }
        let Query { device, wanted, tickets, bytes, .. } = query;
        let answer = match wanted {
            Wanted::Catalog(parts) => self.finish_catalog(context, &device, (parts, bytes), outcome),
            wanted => {
                self.bytes.give_back(bytes);
                self.answer_of(context, &device, wanted, outcome)
            }
        };
        for ticket in tickets {
            context.answer(ticket, answer.clone());
        }
    }

    fn finish_catalog(
        &mut self,
        context: &mut Context<'_>,
        id: &Id,
        (parts, bytes): (Parts<Item>, usize),
        outcome: Result<(), Refused>,
    ) -> Answer {
        let nothing = parts.items.is_empty() && outcome.is_err();
        let Some(device) = self.by_id.get_mut(id).filter(|_| !nothing) else {
            self.bytes.give_back(bytes);
            let refused = outcome.err().map_or_else(|| format!("device {id} is forgotten"), |refused| refused.why);
            self.note_fault(context, "gb28181_no_catalog", format!("no catalog: {refused}"));
            return Answer::refused(RefusedKind::Silent, refused);
        };
        let whole = outcome.is_ok();
        let (seen, sum) = (parts.seen, parts.sum);
        device.channels.announced = sum.or(device.channels.announced);
        device.channels.take_over(parts.items, whole, &mut self.bytes);
        device.channels.extent = if whole { Extent::Whole } else { Extent::Part(seen) };
        if whole {
            device.channels.begin_tries();
        }
        let known = device.channels.len();
        if !whole {
            let all = sum.map_or_else(String::new, |sum| format!(" of {sum}"));
            let message = format!("the catalog of device {id} is not complete: {seen}{all} items have come and are kept");
            self.note_fault(context, "gb28181_catalog_cut", message);
        } else if seen > known {
            let message = format!("of the catalog of device {id} {known} of {seen} items are kept");
            self.note_fault(context, "gb28181_catalog_over_limit", message);
        } else {
            context.note(log::Level::Info, None, format!("the catalog of device {id} has {known} items"));
        }
        self.news.push(News::Catalog(id.clone()));
        context.out.push(Output::Save);
        Answer::Channels(self.channel_views(id))
    }
}

/// What a part of an answer means for all of it.
enum Progress {
    Part,
    Whole,
    Refused,
}

fn whole(is_whole: bool) -> Progress {
    if is_whole { Progress::Whole } else { Progress::Part }
}

impl<T> Parts<T> {
    /// Keeps those that have not come before, by their `mark` if they have one, and that `fits` lets in, which is told how many there are.
    fn add(
        &mut self,
        sum: Option<u32>,
        items: impl Iterator<Item = T>,
        mark: impl Fn(&T) -> Option<u64>,
        mut fits: impl FnMut(&T, usize) -> bool,
    ) -> Progress {
        self.sum = sum.or(self.sum);
        for item in items {
            if let Some(mark) = mark(&item)
                && (self.known.len() >= KNOWN_MAX || !self.known.insert(mark))
            {
                continue;
            }
            self.seen += 1;
            if fits(&item, self.items.len()) {
                self.items.push(item);
            }
        }
        whole(self.is_whole())
    }
}

/// A channel may stand in several groups, each time as an item of its own.
fn item_mark(item: &Item) -> Option<u64> {
    Some(mark(&[&item.device_id, &item.parent_id]))
}

fn record_mark(record: &Record) -> Option<u64> {
    Some(mark(&[&record.device_id, &record.start_time, &record.end_time, &record.file_path, &record.name]))
}

/// Two of the same are taken for one: of what a device says, so that it can harm nobody else.
fn mark(parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// Room for what comes.
struct Room<'a> {
    bytes: &'a mut super::Bytes,
    taken: &'a mut usize,
}

impl Room<'_> {
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.bytes.take(bytes);
        if fits {
            *self.taken += bytes;
        }
        fits
    }
}

fn section_bytes(section: &Section) -> usize {
    let fields = section.fields.iter().map(|(name, text)| size_of::<(String, String)>() + name.len() + text.len());
    size_of::<Section>() + section.name.len() + fields.sum::<usize>()
}

/// With texts as they are kept.
fn kept_info(mut info: DeviceInfo) -> DeviceInfo {
    for text in [&mut info.device_name, &mut info.manufacturer, &mut info.model, &mut info.firmware] {
        cut(text);
    }
    info
}

fn kept_status(mut status: DeviceStatus) -> DeviceStatus {
    status.alarm_inputs.truncate(ALARM_INPUTS_MAX);
    let ids = status.alarm_inputs.iter_mut().map(|input| &mut input.device_id);
    for text in ids.chain([&mut status.fields.reason, &mut status.fields.device_time]) {
        cut(text);
    }
    status
}

/// How long an answer is waited for once the device has taken the question.
fn wait_ms(context: &Context<'_>, wanted: &Wanted) -> u64 {
    match wanted {
        Wanted::Control { .. } => context.settings.answer_ms,
        _ => PART_MS,
    }
}

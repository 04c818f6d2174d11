//! What a platform above asks, and how it is answered: at once where it is known here, else once the device has said it.
//!
//! GB/T 28181-2016 §9.3, §9.5, Annex A and N. A question is answered 200 at once, or refused: 404 for what it is not shown, 503 where too
//! much waits to be told already. The answer is a message of its own, or several with one number, each [`PART_BYTES_MAX`] at most over UDP,
//! because larger ones are lost too easily. The parts of a catalog are made one by one when their turn comes, after all other answers. Not here: subscriptions, calls.

use bytes::Bytes;

use super::channels::{Shown, Source};
use super::link::CatalogAnswer;
use super::questions::Question;
use super::{Cascade, Clock, Output};
use crate::protocol::gb28181::manscdp::device::Online;
use crate::protocol::gb28181::manscdp::{
    Body, Command, Control, DeviceInfo, DeviceStatus, Outcome, Query, Record, RecordQuery, RecordType, Records, Response,
    StatusFields,
};
use crate::protocol::gb28181::moment::{self, Moment};
use crate::protocol::gb28181::platform::ask::{self, Ask, DeviceControl, RecordKind};
use crate::protocol::gb28181::platform::view::RecordView;
use crate::protocol::gb28181::ptz::{CruiseAction, Instruction, ScanAction};
use crate::protocol::gb28181::sip::message;
use crate::protocol::gb28181::sip::message::Request;
use crate::protocol::gb28181::sip::transaction::ServerId;

/// About as much as a datagram holds, with the head.
pub const PART_BYTES_MAX: usize = 1_000;
/// Over a connection.
pub const CONNECTION_PART_BYTES_MAX: usize = 32 * 1024;
/// What the elements around an item take.
const ITEM_MARKUP_BYTES: usize = 250;
const NAME: &str = "Shardcast";

/// Something that was asked.
pub(super) struct Asked<'a> {
    pub at: usize,
    pub id: ServerId,
    pub request: &'a Request,
    pub sn: u64,
    pub device: String,
}

impl Cascade {
    pub(super) fn query(&mut self, clock: Clock, asked: &Asked<'_>, query: Query, out: &mut Vec<Output>) {
        let is_own = asked.device == self.section.id;
        let shown = self.channels.find(&self.links[asked.at].config, &asked.device);
        match (query, shown) {
            (Query::Catalog { .. }, None) if is_own => {
                let ids = self.channels.ids_shown(&self.links[asked.at].config);
                self.answer_catalog(clock, asked, ids, out);
            }
            (Query::Catalog { .. }, Some(shown)) => self.answer_catalog(clock, asked, vec![shown.id], out),
            (Query::DeviceInfo, shown) if is_own || shown.is_some() => {
                let channel = self.channels.count(&self.links[asked.at].config).0 as u32;
                let info = DeviceInfo {
                    device_name: shown.map_or_else(|| NAME.to_owned(), |shown| shown.name),
                    result: Some(Outcome::Ok),
                    manufacturer: NAME.to_owned(),
                    model: NAME.to_owned(),
                    firmware: env!("CARGO_PKG_VERSION").to_owned(),
                    channel: is_own.then_some(channel),
                };
                self.answer(clock, asked, vec![Response::DeviceInfo(info)], out);
            }
            (Query::DeviceStatus, shown) if is_own || shown.is_some() => {
                let online = shown.is_none_or(|shown| shown.online);
                let fields = StatusFields {
                    result: Some(Outcome::Ok),
                    online: Some(if online { Online::Online } else { Online::Offline }),
                    status: Some(Outcome::Ok),
                    device_time: moment::text(clock.unix_ms / 1_000, self.section.utc_offset_minutes),
                    ..StatusFields::default()
                };
                let status = DeviceStatus { fields, alarm_inputs: Vec::new() };
                self.answer(clock, asked, vec![Response::DeviceStatus(status)], out);
            }
            (Query::RecordInfo(query), Some(shown)) => self.ask_records(clock, asked, &shown, &query, out),
            (Query::PresetQuery, Some(Shown { source: Source::Device(of), .. })) => {
                self.accept(clock, asked, out);
                let question = Question::Presets { at: asked.at, sn: asked.sn, device: asked.device.clone() };
                self.ask(question, Ask::Presets(of), out);
            }
            (query, shown) if is_own || shown.is_some() => {
                let plain = Response::Plain { command: query.command().to_owned(), result: Some(Outcome::Error) };
                self.answer(clock, asked, vec![plain], out);
            }
            _ => self.refuse(clock, asked, 404, out),
        }
    }

    fn accept(&mut self, clock: Clock, asked: &Asked<'_>, out: &mut Vec<Output>) {
        self.world(clock, out).respond_with(asked.id, asked.request, 200);
    }

    fn refuse(&mut self, clock: Clock, asked: &Asked<'_>, status: u16, out: &mut Vec<Output>) {
        let mut world = self.world(clock, out);
        let words = message::reason_of(status);
        world.note(log::Level::Debug, None, format!("upstream: a question about {} is answered {status} {words}", asked.device));
        world.respond_with(asked.id, asked.request, status);
    }

    /// Accepts the question and answers it.
    fn answer(&mut self, clock: Clock, asked: &Asked<'_>, parts: Vec<Response>, out: &mut Vec<Output>) {
        let bodies = self.bodies(asked.at, asked.sn, &asked.device, parts);
        if !self.links[asked.at].has_room(&bodies) {
            return self.refuse(clock, asked, 503, out);
        }
        self.accept(clock, asked, out);
        self.tell(clock, asked.at, bodies, out);
    }

    pub(super) fn bodies(&mut self, at: usize, sn: u64, device: &str, parts: Vec<Response>) -> Vec<Bytes> {
        let link = &mut self.links[at];
        parts.into_iter().map(|part| link.body(device.to_owned(), Some(sn), Body::Response(part))).collect()
    }

    fn answer_catalog(&mut self, clock: Clock, asked: &Asked<'_>, ids: Vec<String>, out: &mut Vec<Output>) {
        if !self.links[asked.at].has_room_for_catalog() {
            return self.refuse(clock, asked, 503, out);
        }
        self.accept(clock, asked, out);
        let (link, mut world) = self.parts(clock, asked.at, out);
        link.tell_catalog(&mut world, CatalogAnswer::new(asked.sn, asked.device.clone(), ids));
    }

    pub(super) fn part_bytes_max(&self, at: usize) -> usize {
        self.links[at].part_bytes_max()
    }

    fn ask_records(&mut self, clock: Clock, asked: &Asked<'_>, shown: &Shown, query: &RecordQuery, out: &mut Vec<Output>) {
        let offset = self.section.utc_offset_minutes;
        let seconds = |text: &str| Moment::Text(text.trim().to_owned()).unix_s(offset);
        let (from, to) = (seconds(&query.start_time), seconds(&query.end_time));
        let Source::Device(of) = &shown.source else {
            let none = Records { name: shown.name.clone(), sum: Some(0), records: Vec::new() };
            return self.answer(clock, asked, vec![Response::RecordInfo(none)], out);
        };
        let (Some(from_unix_s), Some(to_unix_s)) = (from, to) else { return self.refuse(clock, asked, 400, out) };
        self.accept(clock, asked, out);
        let kind = match query.kind {
            Some(RecordType::Time) => RecordKind::Time,
            Some(RecordType::Alarm) => RecordKind::Alarm,
            Some(RecordType::Manual) => RecordKind::Manual,
            Some(RecordType::All) | None => RecordKind::All,
        };
        let name = shown.name.clone();
        let question = Question::Records { at: asked.at, sn: asked.sn, device: asked.device.clone(), name };
        self.ask(question, Ask::Records { of: of.clone(), from_unix_s, to_unix_s, kind }, out);
    }

    /// The parts of an answer with records.
    pub(super) fn record_parts(&self, at: usize, name: &str, records: Vec<RecordView>) -> Vec<Response> {
        let sum = Some(records.len() as u32);
        let records = records.into_iter().map(record).collect();
        let parts = in_parts(records, self.part_bytes_max(at), Record::bytes);
        parts.into_iter().map(|records| Response::RecordInfo(Records { name: name.to_owned(), sum, records })).collect()
    }

    pub(super) fn control(&mut self, clock: Clock, asked: &Asked<'_>, control: Control, out: &mut Vec<Output>) {
        let shown = self.channels.find(&self.links[asked.at].config, &asked.device);
        if shown.is_none() && asked.device != self.section.id {
            return self.refuse(clock, asked, 404, out);
        }
        let (wanted, is_answered) = match control {
            Control::Device(control) => {
                let is_answered = control.command.is_answered();
                (device_control(control.command), is_answered)
            }
            Control::Other(_) => (None, true),
        };
        match (shown, wanted) {
            (Some(Shown { source: Source::Device(of), .. }), Some(control)) => {
                self.accept(clock, asked, out);
                let question = Question::Control { at: asked.at, sn: asked.sn, device: asked.device.clone(), is_answered };
                self.ask(question, Ask::Control { of, control }, out);
            }
            // A stream has nothing to turn; nor has this platform.
            _ if is_answered => self.answer(clock, asked, vec![Response::plain("DeviceControl", Outcome::Error)], out),
            _ => self.accept(clock, asked, out),
        }
    }

    /// Something that a device was asked has an answer, which goes on to the platform above.
    pub(super) fn tell_answer(
        &mut self,
        clock: Clock,
        at: usize,
        sn: u64,
        device: &str,
        parts: Vec<Response>,
        out: &mut Vec<Output>,
    ) {
        let bodies = self.bodies(at, sn, device, parts);
        if !self.tell(clock, at, bodies, out) {
            let mut world = self.world(clock, out);
            world.note(log::Level::Warn, Some("upstream_full"), format!("upstream: an answer of {device} finds no room"));
        }
    }
}

/// About how long an item is that holds so many bytes.
pub(super) const fn written_bytes<T>(held: usize) -> usize {
    // What is counted has more than the texts.
    held.saturating_sub(size_of::<T>()) + ITEM_MARKUP_BYTES
}

/// Items in lists that are not larger than that, or have one item; one empty list if there are none.
pub(super) fn in_parts<T>(items: Vec<T>, bytes_max: usize, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut parts, mut sum) = (vec![Vec::new()], 0);
    for item in items {
        let size = written_bytes::<T>(bytes(&item));
        let last = parts.len() - 1;
        if sum + size > bytes_max && !parts[last].is_empty() {
            parts.push(vec![item]);
            sum = size;
        } else {
            parts[last].push(item);
            sum += size;
        }
    }
    parts
}

fn record(view: RecordView) -> Record {
    let kind = match view.kind.as_deref() {
        Some("time") => Some(RecordType::Time),
        Some("alarm") => Some(RecordType::Alarm),
        Some("manual") => Some(RecordType::Manual),
        Some("all") => Some(RecordType::All),
        _ => None,
    };
    Record {
        device_id: view.channel,
        name: view.name.unwrap_or_default(),
        file_path: view.path.unwrap_or_default(),
        address: view.address.unwrap_or_default(),
        start_time: view.start.unwrap_or_default(),
        end_time: view.end.unwrap_or_default(),
        secrecy: view.secrecy,
        kind,
        recorder_id: view.recorder.unwrap_or_default(),
        file_size: view.bytes,
    }
}

/// What the platform above wants of a device, in the words of the one below. `None`: nothing that is known.
fn device_control(command: Command) -> Option<DeviceControl> {
    use crate::protocol::gb28181::manscdp::{GuardAction, PrecisePtz, RecordAction};
    Some(match command {
        Command::Ptz(code) => return Instruction::parse(&code).ok().map(|(instruction, _)| moved(instruction)),
        Command::TeleBoot => DeviceControl::Reboot,
        Command::Record(action) => DeviceControl::Record { on: action == RecordAction::Start },
        Command::Guard(action) => DeviceControl::Guard { on: action == GuardAction::Set },
        Command::ResetAlarm(_) => DeviceControl::ResetAlarm,
        Command::IFrame => DeviceControl::KeyFrame,
        Command::DragZoom(zoom, rectangle) => DeviceControl::DragZoom {
            zoom_in: zoom == crate::protocol::gb28181::manscdp::DragZoom::In,
            length: rectangle.length.unwrap_or_default(),
            width: rectangle.width.unwrap_or_default(),
            mid_x: rectangle.mid_point_x.unwrap_or_default(),
            mid_y: rectangle.mid_point_y.unwrap_or_default(),
            length_x: rectangle.length_x.unwrap_or_default(),
            length_y: rectangle.length_y.unwrap_or_default(),
        },
        Command::HomePosition(home) => {
            DeviceControl::HomePosition { on: home.enabled == Some(1), reset_s: home.reset_time, preset: home.preset_index }
        }
        Command::PrecisePtz(PrecisePtz { pan, tilt, zoom }) => DeviceControl::Look { pan, tilt, zoom },
        Command::Other(_) => return None,
    })
}

fn moved(instruction: Instruction) -> DeviceControl {
    let cruise = |group, action, value| DeviceControl::Cruise { action, group, value };
    let scan = |group, action, value| DeviceControl::Scan { action, group, value };
    match instruction {
        Instruction::Move { pan, tilt, zoom } => DeviceControl::Move { pan, tilt, zoom },
        Instruction::Lens { focus, iris } => DeviceControl::Lens { focus, iris },
        Instruction::Preset(action, number) => DeviceControl::Preset { action, number },
        Instruction::Cruise { group, action } => match action {
            CruiseAction::AddPoint(preset) => cruise(group, ask::CruiseAction::AddPoint, preset.into()),
            CruiseAction::DeletePoint(preset) => cruise(group, ask::CruiseAction::DeletePoint, preset.into()),
            CruiseAction::DeleteAll => cruise(group, ask::CruiseAction::DeletePoint, 0),
            CruiseAction::Speed(speed) => cruise(group, ask::CruiseAction::Speed, speed),
            CruiseAction::Dwell(seconds) => cruise(group, ask::CruiseAction::DwellSeconds, seconds),
            CruiseAction::Start => cruise(group, ask::CruiseAction::Start, 0),
        },
        Instruction::Scan { group, action } => match action {
            ScanAction::Start => scan(group, ask::ScanAction::Start, 0),
            ScanAction::LeftLimit => scan(group, ask::ScanAction::LeftLimit, 0),
            ScanAction::RightLimit => scan(group, ask::ScanAction::RightLimit, 0),
            ScanAction::Speed(speed) => scan(group, ask::ScanAction::Speed, speed),
        },
        Instruction::Auxiliary { number, on } => DeviceControl::Switch { number, on },
    }
}

//! What the operator asks of devices → questions to them, or answers of what is known.

use super::queries::{Parts, Wanted};
use super::shown::{config_view, cruise_view, cruise_views, preset_views, ptz_position_view, records_view};
use super::{Devices, Id, Presence, commands};
use crate::protocol::gb28181::manscdp::{CruiseName, PtzPosition, Query, RecordQuery, RecordType};
use crate::protocol::gb28181::moment;
use crate::protocol::gb28181::platform::ask::{Answer, Ask, Channel, DeviceControl, RecordKind, Refused, RefusedKind};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::{Output, Ticket};

impl Devices {
    /// `Err`: a question that is none of these.
    pub fn ask(&mut self, context: &mut Context<'_>, ticket: Ticket, ask: Ask) -> Result<(), Ask> {
        if let Some(answer) = self.answer_at_once(context, &ask) {
            context.answer(ticket, answer.unwrap_or_else(Answer::Refused));
            return Ok(());
        }
        let begun = match ask {
            Ask::Refresh(id) => self.refresh(context, &id, ticket),
            Ask::Records { of, from_unix_s, to_unix_s, kind } => {
                let query = record_query(context, from_unix_s, to_unix_s, kind);
                self.question(context, ticket, &of, query, Wanted::Records(Parts::default()))
            }
            Ask::Config { of, kinds } => {
                let wanted = Wanted::Config { kinds: kinds.len().max(1), sections: Vec::new() };
                self.question(context, ticket, &of, Query::ConfigDownload(kinds.join("/")), wanted)
            }
            Ask::Presets(of) => self.question(context, ticket, &of, Query::PresetQuery, Wanted::Presets(Parts::default())),
            Ask::Cruises(of) => self.question(context, ticket, &of, Query::CruiseTracks, Wanted::Cruises(Parts::default())),
            Ask::Cruise { of, number } => {
                let wanted = Wanted::Cruise(CruiseName { number: Some(number), ..CruiseName::default() }, Parts::default());
                self.question(context, ticket, &of, Query::CruiseTrack(number), wanted)
            }
            Ask::PtzPosition(of) => {
                self.question(context, ticket, &of, Query::PtzPosition, Wanted::PtzPosition(PtzPosition::default()))
            }
            Ask::Control { of, control } => self.command(context, ticket, &of, &control),
            other => return Err(other),
        };
        if let Err(refused) = begun {
            context.answer(ticket, Answer::Refused(refused));
        }
        Ok(())
    }

    /// What needs nobody to be asked.
    fn answer_at_once(&mut self, context: &mut Context<'_>, ask: &Ask) -> Option<Result<Answer, Refused>> {
        let now = context.now();
        Some(match ask {
            Ask::Devices => Ok(Answer::Devices(self.device_views(now))),
            Ask::Device(id) => self.known(id).map(|id| Answer::Device(Box::new(self.device_view(now, &id)))),
            Ask::Channels(id) => self.known(id).map(|id| Answer::Channels(self.channel_views(&id))),
            Ask::Alarms(id) => self.known_if(id.as_ref()).map(|id| Answer::Alarms(self.events.alarms(now, id.as_deref()))),
            Ask::Positions(id) => {
                self.known_if(id.as_ref()).map(|id| Answer::Positions(self.events.positions(now, id.as_deref())))
            }
            Ask::Subscriptions(id) => self.known(id).map(|id| Answer::Subscriptions(self.subscription_views(now, &id))),
            Ask::Forget(id) => self.forget_asked(context, id),
            _ => return None,
        })
    }

    fn question(
        &mut self,
        context: &mut Context<'_>,
        ticket: Ticket,
        of: &Channel,
        query: Query,
        wanted: Wanted,
    ) -> Result<(), Refused> {
        let id = self.known(&of.device)?;
        self.ask_device(context, (&id, &of.channel), query, wanted, Some(ticket))
    }

    fn command(
        &mut self,
        context: &mut Context<'_>,
        ticket: Ticket,
        of: &Channel,
        control: &DeviceControl,
    ) -> Result<(), Refused> {
        let id = self.known(&of.device)?;
        self.check_channel(of)?;
        self.control_device(context, (&id, &of.channel), commands::of(control)?, ticket)
    }

    fn refresh(&mut self, context: &mut Context<'_>, id: &str, ticket: Ticket) -> Result<(), Refused> {
        let id = self.known(id)?;
        self.ask_catalog(context, &id, Some(ticket))?;
        // What is found out besides, if there is room for more questions.
        let _ = self.ask_device(context, (&id, &id), Query::DeviceInfo, Wanted::Info, None);
        let _ = self.ask_device(context, (&id, &id), Query::DeviceStatus, Wanted::Status, None);
        Ok(())
    }

    fn forget_asked(&mut self, context: &mut Context<'_>, id: &str) -> Result<Answer, Refused> {
        let id = self.known(id)?;
        if self.by_id.get(&id).is_some_and(|device| device.presence == Presence::Online) {
            return Err(Refused { kind: RefusedKind::Conflict, why: format!("device {id} is online") });
        }
        self.refuse_queries(context, &id, "it is forgotten");
        self.forget(&id);
        context.out.push(Output::Save);
        Ok(Answer::Done)
    }

    fn known(&self, id: &str) -> Result<Id, Refused> {
        let why = || format!("no device {id} is registered");
        let known = self.by_id.get_key_value(id).map(|(id, _)| id.clone());
        known.ok_or_else(|| Refused { kind: RefusedKind::NotFound, why: why() })
    }

    fn known_if(&self, id: Option<&String>) -> Result<Option<Id>, Refused> {
        id.map(|id| self.known(id)).transpose()
    }

    /// What has come of a question other than that for the catalog.
    pub(super) fn answer_of(
        &mut self,
        context: &mut Context<'_>,
        id: &Id,
        wanted: Wanted,
        outcome: Result<(), Refused>,
    ) -> Answer {
        let is_whole = outcome.is_ok();
        let has_part = match &wanted {
            Wanted::Records(parts) => !parts.items.is_empty(),
            Wanted::Config { sections, .. } => !sections.is_empty(),
            Wanted::Presets(parts) => !parts.items.is_empty(),
            Wanted::Cruises(parts) => !parts.items.is_empty(),
            Wanted::Cruise(_, parts) => !parts.items.is_empty(),
            _ => false,
        };
        if let Err(refused) = outcome
            && !has_part
        {
            let message = format!("no answer: {}", refused.why);
            self.note_fault(context, "gb28181_no_answer", message);
            return Answer::Refused(refused);
        }
        match wanted {
            Wanted::Records(parts) => Answer::Records(records_view(parts, is_whole)),
            Wanted::Config { sections, .. } => Answer::Config(config_view(sections)),
            Wanted::Presets(parts) => Answer::Presets(preset_views(parts.items)),
            Wanted::Cruises(parts) => Answer::Cruises(cruise_views(parts.items)),
            Wanted::Cruise(name, parts) => Answer::Cruise(cruise_view(name, parts.items)),
            Wanted::PtzPosition(position) => Answer::PtzPosition(ptz_position_view(&position)),
            Wanted::Info | Wanted::Status | Wanted::Control { .. } => Answer::Done,
            Wanted::Catalog(_) => Answer::Channels(self.channel_views(id)),
        }
    }
}

fn record_query(context: &Context<'_>, from_unix_s: u64, to_unix_s: u64, kind: RecordKind) -> Query {
    let offset = context.settings.utc_offset_minutes;
    let kind = match kind {
        RecordKind::All => RecordType::All,
        RecordKind::Time => RecordType::Time,
        RecordKind::Alarm => RecordType::Alarm,
        RecordKind::Manual => RecordType::Manual,
    };
    Query::RecordInfo(RecordQuery {
        start_time: moment::text(from_unix_s, offset),
        end_time: moment::text(to_unix_s, offset),
        secrecy: Some(0),
        kind: Some(kind),
        ..RecordQuery::default()
    })
}

//! Pause, resume, speed and seek in a recording: INFO with MANSRTSP in the dialog. GB/T 28181-2016 §9.8 and Annex B.

use super::call::Phase;
use super::finish::way;
use super::{Calls, Registry, Sent, no_call, refused};
use crate::protocol::gb28181::mansrtsp::{self, From, SCALE_MAX};
use crate::protocol::gb28181::platform::ask::{Answer, PlayingControl, Refused, RefusedKind};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::{CallId, Ticket};
use crate::protocol::gb28181::sip::message::{Method, Response};

pub const MANSRTSP_TYPE: &str = "Application/MANSRTSP";

/// What is under way.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub ticket: Ticket,
    call: CallId,
    pauses: bool,
}

impl Calls {
    pub(super) fn playing_asked(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        ticket: Ticket,
        id: CallId,
        control: PlayingControl,
    ) -> Result<(), Refused> {
        let request = request_of(control)?;
        let is_over = self.ended.iter().any(|ended| ended.id() == id);
        let call = self.calls.get_mut(&id).ok_or_else(|| match is_over {
            true => refused(RefusedKind::Conflict, format!("call {} is over", id.0)),
            false => no_call(id),
        })?;
        if !call.is_recorded() {
            return Err(refused(RefusedKind::Conflict, format!("call {} is none of a recording", id.0)));
        }
        let dialog = call.dialog.as_mut().filter(|_| matches!(call.phase, Phase::Running));
        let dialog = dialog.ok_or_else(|| refused(RefusedKind::Conflict, format!("call {} is not answered yet", id.0)))?;
        call.controls += 1;
        let mut info = dialog.request(Method::Info);
        info.set_body(MANSRTSP_TYPE, request.write(call.controls));
        let way = way(registry, call);
        let client = context.send(way, info);
        let client = client.ok_or_else(|| refused(RefusedKind::Full, "too many SIP requests are under way"))?;
        let pauses = control == PlayingControl::Pause;
        self.sent.insert(client, Sent::Playing(Asked { ticket, call: id, pauses }));
        Ok(())
    }

    pub(super) fn playing_answered(&mut self, context: &mut Context<'_>, asked: &Asked, response: &Response) {
        // The answer of the player inside, if there is one, says more.
        let inside = mansrtsp::Answer::parse(&response.body).ok().map(|answer| answer.status);
        if !response.is_success() || inside.is_some_and(|status| status / 100 != 2) {
            let status = match inside.filter(|_| response.is_success()) {
                Some(status) => format!("MANSRTSP {status}"),
                None => response.words(),
            };
            let why = format!("the device has refused: {status}");
            return context.answer(asked.ticket, Answer::refused(RefusedKind::Device, why));
        }
        if let Some(call) = self.calls.get_mut(&asked.call) {
            call.is_paused = asked.pauses;
            call.heard.1 = context.now();
        }
        context.answer(asked.ticket, Answer::Done);
    }
}

fn request_of(control: PlayingControl) -> Result<mansrtsp::Request, Refused> {
    Ok(match control {
        PlayingControl::Pause => mansrtsp::Request::Pause,
        PlayingControl::Resume => mansrtsp::Request::Play { from: Some(From::Now), scale: None },
        PlayingControl::Seek(seconds) => mansrtsp::Request::Play { from: Some(From::Seconds(seconds.into())), scale: None },
        PlayingControl::Scale(scale) if scale != 0.0 && scale.abs() <= SCALE_MAX => {
            mansrtsp::Request::Play { from: None, scale: Some(scale) }
        }
        PlayingControl::Scale(_) => {
            return Err(refused(RefusedKind::Bad, format!("the scale is -{SCALE_MAX} to {SCALE_MAX}, and not 0")));
        }
    })
}

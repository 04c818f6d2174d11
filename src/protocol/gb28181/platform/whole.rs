//! The whole platform: what comes goes to devices or calls, and what one of them says goes to the other.

use std::sync::Arc;

use super::ask::{Answer, Ask, Channel, Refused, RefusedKind};
use super::calls::{ALLOWED, Calls, Camera, Registry};
use super::context::Context;
use super::devices::{Devices, News, Saved, kind_of};
use super::{Clock, Input, Output, Ticket};
use crate::config::Config;
use crate::media::Stamp;
use crate::protocol::common::auth::Keyed;
use crate::protocol::gb28181::manscdp::Charset;
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::message::{Identity, Method, Request};
use crate::protocol::gb28181::sip::tokens::Tokens;
use crate::protocol::gb28181::sip::transaction::{Event, ServerId, Transactions};

pub struct Platform {
    config: Arc<Config>,
    transactions: Transactions,
    tokens: Tokens,
    devices: Devices,
    calls: Calls,
    /// What is known from before, until the time is known.
    restored: Option<Saved>,
    clock: Clock,
    events: Vec<Event>,
}

impl Platform {
    /// `secret`: random, of this process alone.
    pub fn new(config: Arc<Config>, saved: Saved, secret: [u8; 32]) -> Self {
        // Whatever is made of one of them tells nothing of the others.
        let keyed = Keyed::new(&secret);
        let of = |purpose| keyed.hash(purpose, &[]);
        let random = of("sip first ssrc");
        let settings = &config.gb28181;
        Platform {
            transactions: Transactions::new(&of("sip branches")),
            tokens: Tokens::new(&of("sip tokens")),
            devices: Devices::new(settings, &of("sip devices")),
            calls: Calls::new(settings, u32::from_be_bytes([random[0], random[1], random[2], random[3]])),
            restored: Some(saved).filter(|saved| !saved.devices.is_empty()),
            clock: Clock { now: Stamp::ZERO, unix_ms: 0 },
            events: Vec::new(),
            config,
        }
    }

    /// What survives a restart.
    pub fn saved(&self) -> Saved {
        self.restored.clone().unwrap_or_else(|| self.devices.saved(self.clock))
    }

    pub fn next_timeout(&self) -> Option<Stamp> {
        let at_once = self.restored.is_some().then_some(Stamp::ZERO);
        let parts = [self.transactions.next_timeout(), self.devices.next_timeout(), self.calls.next_timeout(), at_once];
        parts.into_iter().flatten().min()
    }

    /// Takes one input and appends what follows from it.
    pub fn handle(&mut self, clock: Clock, input: Input<'_>, out: &mut Vec<Output>) {
        self.clock = clock;
        if let Some(saved) = self.restored.take() {
            self.with(out, |devices, _, context| devices.restore(context, saved));
        }
        let now = clock.now;
        match input {
            Input::Message { hop, bytes } => self.transactions.received(now, hop, bytes, &mut self.events),
            Input::Closed(connection) => {
                self.transactions.closed(connection, &mut self.events);
                self.with(out, |devices, _, context| devices.closed(context, connection));
            }
            Input::Timeout => {
                self.transactions.timeout(now, &mut self.events);
                self.events(out);
                self.with(out, |devices, calls, context| {
                    devices.timeout(context);
                    calls.timeout(context, devices);
                });
            }
            Input::Ask { ticket, ask } => {
                self.with(out, |devices, calls, context| of_operator(devices, calls, context, ticket, ask));
            }
            media => self.with(out, |devices, calls, context| of_media(devices, calls, context, media)),
        }
        self.events(out);
        self.news(out);
        out.extend(self.transactions.take_sends().map(|(hop, bytes)| Output::Send { hop, bytes }));
    }

    fn with<T>(&mut self, out: &mut Vec<Output>, act: impl FnOnce(&mut Devices, &mut Calls, &mut Context<'_>) -> T) -> T {
        let mut context = Context {
            clock: self.clock,
            settings: &self.config.gb28181,
            transactions: &mut self.transactions,
            tokens: &mut self.tokens,
            out,
        };
        act(&mut self.devices, &mut self.calls, &mut context)
    }

    fn events(&mut self, out: &mut Vec<Output>) {
        for event in std::mem::take(&mut self.events) {
            self.with(out, |devices, calls, context| of_sip(devices, calls, context, event));
        }
    }

    /// What devices have said or done matters to calls.
    fn news(&mut self, out: &mut Vec<Output>) {
        for news in self.devices.take_news() {
            if let News::Online(device) | News::Offline(device) | News::Catalog(device) = &news {
                out.push(Output::DeviceChanged(device.to_string()));
            }
            self.with(out, |devices, calls, context| match news {
                News::Online(_) | News::Catalog(_) => {}
                News::Offline(device) => calls.device_gone(context, devices, &device),
                News::EndOfMedia { device, channel, call_id } => {
                    calls.end_of_media(context, devices, &device, &channel, &call_id);
                }
                News::Broadcast { device, sn, agreed } => calls.agreed(context, devices, &device, sn, agreed),
            });
        }
    }
}

fn of_operator(devices: &mut Devices, calls: &mut Calls, context: &mut Context<'_>, ticket: Ticket, ask: Ask) {
    if let Ask::Forget(device) = &ask
        && let Some(call) = calls.any_of(device)
    {
        let why = format!("call {} of device {device} is under way: end it first", call.0);
        return context.answer(ticket, Answer::refused(RefusedKind::Conflict, why));
    }
    let ask = devices.ask(context, ticket, ask).err();
    let unknown = ask.and_then(|ask| calls.ask(context, devices, ticket, ask).err());
    if unknown.is_some() {
        context.answer(ticket, Answer::refused(RefusedKind::Bad, "this question is not known"));
    }
}

fn of_sip(devices: &mut Devices, calls: &mut Calls, context: &mut Context<'_>, event: Event) {
    match event {
        Event::Request { id, hop, request } => request_of_device(devices, calls, context, (id, hop), request),
        Event::Response { id, response, .. } => {
            if !devices.response(context, id, &response) {
                let device = calls.asked(id).filter(|_| response.is_success()).map(str::to_owned);
                // Of BYE, nobody waits for the answer.
                calls.response(context, devices, id, &response);
                if let Some(device) = device {
                    devices.agreed(context, &device);
                }
            }
        }
        Event::Failed { id, failure } => {
            if !devices.failed(context, id, failure) {
                calls.failed(context, devices, id, failure);
            }
        }
        Event::Ack { invite, .. } => calls.acknowledged(invite),
        Event::Cancelled { invite } => calls.given_up(context, devices, invite, "the device has called off"),
        Event::Unacknowledged { invite } => {
            calls.given_up(context, devices, invite, "the device has not acknowledged the answer to its call");
        }
        Event::Broken { hop, reason, message } => devices.note_fault(context, reason, format!("{}: {message}", hop.peer)),
    }
}

fn request_of_device(
    devices: &mut Devices,
    calls: &mut Calls,
    context: &mut Context<'_>,
    (id, hop): (ServerId, Hop),
    request: Request,
) {
    let is_in_dialog = Identity::of(&request.headers).is_some_and(|identity| identity.to.tag().is_some());
    match &request.method {
        Method::Register => devices.register(context, id, hop, &request),
        Method::Message => devices.message(context, id, hop, &request),
        Method::Notify => devices.notify(context, id, hop, &request),
        Method::Invite if !is_in_dialog && !calls.has(devices, hop, &request) => match devices.sender(context, hop, &request) {
            Ok(device) => calls.called(context, devices, &device, (id, hop), request),
            Err(stranger) => {
                context.respond_once(id, &request.response(403));
                devices.note_fault(context, stranger.reason, stranger.message);
            }
        },
        Method::Invite | Method::Bye | Method::Info => calls.request(context, devices, (id, hop), &request),
        // Who asks in a call wants to know whether there still is one.
        Method::Options if is_in_dialog => calls.request(context, devices, (id, hop), &request),
        Method::Other(name) if &**name == "UPDATE" => calls.request(context, devices, (id, hop), &request),
        method => {
            let mut response = request.response(if *method == Method::Options { 200 } else { 405 });
            response.headers.push("Allow", ALLOWED);
            context.respond(id, &response);
        }
    }
}

fn of_media(devices: &mut Devices, calls: &mut Calls, context: &mut Context<'_>, input: Input<'_>) {
    match input {
        Input::Wanted(key) => calls.wanted(context, devices, &key),
        Input::ReceiverOpened { call, port } => calls.receiver_opened(context, devices, call, port),
        Input::Reception { call, reception } => {
            calls.reception(context, devices, call, reception);
            if let Some(device) = calls.heard_now(context.now(), call) {
                devices.sign_of_life(context.clock, device);
            }
        }
        Input::SenderOpened { call, port } => calls.sender_opened(context, devices, call, port),
        Input::Sending { call, sending } => calls.sending(context, devices, call, sending),
        Input::Finishing => calls.finish(context, devices),
        // Of platforms above, which nothing here has asked for; the others are taken before.
        Input::Reached { .. } | Input::Streams(_) => {}
        Input::Message { .. } | Input::Closed(_) | Input::Timeout | Input::Ask { .. } => {}
    }
}

impl Registry for Devices {
    fn hop(&self, device: &str) -> Result<Hop, Refused> {
        Devices::hop(self, device)
    }

    fn camera(&self, of: &Channel) -> Camera {
        let is_known = !matches!(Devices::hop(self, &of.device), Err(Refused { kind: RefusedKind::NotFound, .. }));
        let may_show = of.device == of.channel || matches!(kind_of(&of.channel), "camera" | "ip_camera" | "other");
        if !is_known || !may_show {
            return Camera::No;
        }
        let is_listed = self.item(&of.device, &of.channel).is_some() || of.device == of.channel;
        match is_listed {
            true => Camera::Listed,
            // Of a device whose catalog has not come, any channel may be one.
            false if self.items(&of.device).next().is_none() => Camera::MayBe,
            false => Camera::No,
        }
    }

    fn check_channel(&self, of: &Channel) -> Result<(), Refused> {
        Devices::check_channel(self, of)
    }

    fn charset(&self, device: &str) -> Charset {
        Devices::charset(self, device)
    }

    fn next_sn(&mut self) -> u64 {
        Devices::next_sn(self)
    }
}

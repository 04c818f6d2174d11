//! Packets with any numbers, timestamps and arrivals, RTCP and timeouts → `RtpDemuxer`: no panic; every packet is counted once; a gap is
//! waited for no longer than asked; frames are canonical and of tracks that were announced; decoding times go forward.
//!
//! Input: three bytes for the picture's format, the sound's, and the options, and clock rates if these say so; then steps, see `Run::step`.
#![no_main]

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::demux::{DemuxOptions, Demuxed, OnLoss, RtpDemuxer};
use shardcast::format::rtp::payload::CLOCK_RATES;
use shardcast::format::rtp::rtcp::{self, SenderReport};
use shardcast::format::rtp::{PayloadForm, RtpPayload};
use shardcast::media::aac::AacConfig;
use shardcast::media::{Codec, Frame, MediaEvent, Stamp, TrackKind, Tracks};
use shardcast_fuzz::{AVCC, Choices, HVCC, check_config, check_unit, payload};

/// A step of the presentation time by more, forward or back, is a new beginning for the decoding times.
const JUMP_MICROS: i64 = 10_000_000;
const BACK_MICROS: i64 = 1_000_000;

fn picture(choice: u8) -> Option<RtpPayload> {
    let known = |config: &'static [u8]| if choice & 0x80 == 0 { Bytes::new() } else { Bytes::from_static(config) };
    let (codec, form, config) = match choice % 7 {
        0 => (Codec::H264, PayloadForm::H264, known(AVCC)),
        1 => (Codec::H265, PayloadForm::H265 { donl: false }, known(HVCC)),
        2 => (Codec::H265, PayloadForm::H265 { donl: true }, known(HVCC)),
        3 => (Codec::Av1, PayloadForm::Av1, Bytes::new()),
        4 => (Codec::Vp8, PayloadForm::Vp8, Bytes::new()),
        5 => (Codec::Vp9, PayloadForm::Vp9, Bytes::new()),
        _ => return None,
    };
    Some(RtpPayload { config, ..payload(codec, form, 90_000) })
}

fn sound(choice: u8) -> Option<RtpPayload> {
    let config = if choice & 0x80 == 0 { Bytes::new() } else { AacConfig::build_lc(48_000, 2) };
    let hbr = PayloadForm::AacHbr { size_bits: 13, index_bits: 3, index_delta_bits: 3 };
    let (codec, form, clock_rate, config) = match choice % 7 {
        0 => (Codec::Aac, hbr, 48_000, config),
        1 => (Codec::Aac, PayloadForm::Latm { config_in_band: true }, 48_000, config),
        2 => (Codec::Aac, PayloadForm::Latm { config_in_band: false }, 48_000, AacConfig::build_lc(48_000, 2)),
        3 => (Codec::Opus, PayloadForm::Opus, 48_000, Bytes::new()),
        4 => (Codec::Mp3, PayloadForm::Mpa, 90_000, Bytes::new()),
        5 => (Codec::G711A, PayloadForm::G711, 8_000, Bytes::new()),
        _ => return None,
    };
    Some(RtpPayload { config, ..payload(codec, form, clock_rate) })
}

/// What one track's sender says next.
#[derive(Clone, Copy, Default)]
struct Sender {
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

struct Run {
    demuxer: RtpDemuxer,
    payloads: Vec<RtpPayload>,
    window_ms: Option<u64>,
    now: Stamp,
    senders: [Sender; 2],
    /// RTP packets given, and packets that may have been counted as useless RTCP.
    given: u64,
    reports: u64,
    counted: u64,
    out: Vec<Demuxed>,
    announced: Tracks,
    /// Per track: the last frame's decoding time in microseconds.
    decoded: [Option<i64>; 2],
}

impl Run {
    fn new(choices: &mut Choices<'_>) -> Self {
        let mut payloads: Vec<RtpPayload> = [picture(choices.byte()), sound(choices.byte())].into_iter().flatten().collect();
        let options = choices.byte();
        // Bits for each track: the rate that its format has, or one that the description has said.
        for (payload, _) in payloads.iter_mut().zip([8, 16]).filter(|(_, bit)| options & bit != 0) {
            let ticks = choices.number() % (CLOCK_RATES.end() - CLOCK_RATES.start() + 1);
            payload.clock_rate = CLOCK_RATES.start() + ticks;
        }
        let window_ms = [None, Some(50), Some(0), Some(1_000)][usize::from(options & 3)];
        let on_loss = if options & 4 == 0 { OnLoss::Pass } else { OnLoss::DropGop };
        Run {
            demuxer: RtpDemuxer::new(payloads.clone(), DemuxOptions { reorder_ms: window_ms, on_loss, ssrc: 1 }),
            payloads,
            window_ms,
            now: Stamp::from_millis(1_000_000),
            senders: [Sender::default(); 2],
            given: 0,
            reports: 0,
            counted: 0,
            out: Vec::new(),
            announced: Tracks::default(),
            decoded: [None; 2],
        }
    }

    /// A byte says what: below 192 a packet, see `Run::packet`; else one of eight other things, see `Run::other`.
    fn step(&mut self, choices: &mut Choices<'_>) {
        let what = choices.byte();
        match what {
            0..192 => self.packet(what, choices),
            _ => self.other(what, choices),
        }
        self.take();
        if let Some(at) = self.demuxer.next_timeout() {
            let window_ms = self.window_ms.expect("without a window nothing is waited for");
            assert!(at <= self.now.after_millis(window_ms), "waits no longer than asked");
        }
    }

    /// Track, marker, two bits each for number, timestamp and delay; then what these want, and a sized payload.
    fn packet(&mut self, what: u8, choices: &mut Choices<'_>) {
        let track = usize::from(what & 1);
        let sender = &mut self.senders[track];
        sender.sequence = match what >> 2 & 3 {
            0 | 1 => sender.sequence.wrapping_add(1),
            2 => sender.sequence.wrapping_add_signed(choices.byte().cast_signed().into()),
            _ => choices.word(),
        };
        sender.timestamp = match what >> 4 & 3 {
            0 => sender.timestamp,
            1 => sender.timestamp.wrapping_add(3_000),
            2 => sender.timestamp.wrapping_add_signed(choices.word().cast_signed().into()),
            _ => choices.number(),
        };
        let sender = *sender;
        let delay_ms = match what >> 6 {
            0 => 0,
            1 => u64::from(choices.byte()),
            _ => u64::from(choices.byte()) * 100,
        };
        self.pass(delay_ms);
        let Some(payload_type) = self.payloads.get(track).map(|payload| payload.payload_type) else { return };
        self.rtp(track, sender, payload_type | (what & 2) << 6, choices.sized());
    }

    fn rtp(&mut self, track: usize, sender: Sender, second_byte: u8, payload: &[u8]) {
        let mut packet = BytesMut::new();
        packet.put_slice(&[0x80, second_byte]);
        packet.put_u16(sender.sequence);
        packet.put_u32(sender.timestamp);
        packet.put_u32(sender.ssrc);
        packet.put_slice(payload);
        self.given += u64::from(!rtcp::is_rtcp(&packet));
        self.demuxer.rtp(self.now, track, &packet, &mut self.out);
    }

    fn other(&mut self, what: u8, choices: &mut Choices<'_>) {
        let track = usize::from(what & 1);
        let sender = self.senders[track];
        match what >> 1 & 7 {
            // The sender's report of its two clocks.
            0 => {
                let ntp = (3_900_000_000 + u64::from(choices.word())) << 32 | u64::from(choices.number());
                let rtp_timestamp = sender.timestamp.wrapping_add(choices.number());
                let mut report = BytesMut::new();
                let said = SenderReport { ssrc: sender.ssrc, ntp, rtp_timestamp, packets: 0, octets: 0 };
                rtcp::write_sender_report(&mut report, &said);
                self.rtcp(track, &report);
            }
            1 => self.rtcp(track, choices.sized()),
            2 => {
                let packet = choices.sized();
                let is_known = track < self.payloads.len();
                self.given += u64::from(is_known && !rtcp::is_rtcp(packet));
                self.reports += u64::from(rtcp::is_rtcp(packet));
                self.demuxer.rtp(self.now, track, packet, &mut self.out);
            }
            3 => self.senders[track].ssrc = choices.byte().into(),
            4 => self.report(track),
            5 => self.pass(u64::from(choices.word())),
            6 if track < self.payloads.len() => self.rtp(track, sender, choices.byte() & 0x3F, choices.sized()),
            _ => {
                let mut goodbye = BytesMut::new();
                rtcp::write_bye(&mut goodbye, sender.ssrc);
                self.rtcp(track, &goodbye);
            }
        }
    }

    fn rtcp(&mut self, track: usize, compound: &[u8]) {
        self.reports += 1;
        self.demuxer.rtcp(self.now, track, compound);
    }

    fn report(&mut self, track: usize) {
        if let Some(report) = self.demuxer.receiver_report(self.now, track) {
            rtcp::parse(&report, |_| panic!("nothing of a sender")).expect("our own report");
            assert_eq!(report[..4], [0x81, 201, 0, 7]);
        }
    }

    /// Time passes, with every timeout when it is due.
    fn pass(&mut self, millis: u64) {
        let until = self.now.after_millis(millis);
        while let Some(at) = self.demuxer.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.demuxer.timeout(self.now, &mut self.out);
            self.take();
            assert!(self.demuxer.next_timeout().is_none_or(|next| next > self.now), "a gap is given up when it is due");
        }
        self.now = until;
    }

    fn take(&mut self) {
        for result in std::mem::take(&mut self.out) {
            match result {
                Demuxed::Event(MediaEvent::Tracks(tracks)) => self.tracks(tracks),
                Demuxed::Event(MediaEvent::Frame(frame)) => self.frame(&frame),
                Demuxed::Event(MediaEvent::End) => panic!("only a session says when a stream ends"),
                Demuxed::Discarded(_) => {}
            }
        }
        let received = self.demuxer.take_received();
        self.counted += received.received + received.useless;
        assert!((self.given..=self.given + self.reports).contains(&self.counted), "every packet counts once");
    }

    fn tracks(&mut self, tracks: Tracks) {
        for track in tracks.iter() {
            assert_eq!(track.codec, self.payloads[usize::from(track.id.0)].codec);
            if track.codec.needs_config() {
                check_config(track.codec, &track.config);
            }
        }
        assert_ne!(tracks, self.announced);
        self.announced = tracks;
    }

    fn frame(&mut self, frame: &Frame) {
        let track = self.announced.get(frame.track).expect("an announced track");
        check_unit(track.codec, &frame.data);
        assert!(frame.arrival <= self.now);
        if track.codec.kind() != TrackKind::Video {
            assert!(frame.cts == 0 && frame.key);
            return;
        }
        let decoding = frame.dts.as_micros();
        let presentation = decoding + i64::from(frame.cts);
        let last = self.decoded[usize::from(frame.track.0)].replace(decoding);
        if let Some(last) = last.filter(|last| (-BACK_MICROS..=JUMP_MICROS).contains(&(presentation - last))) {
            assert!(decoding > last, "decoding times go forward: {last}, {decoding}");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let mut run = Run::new(&mut choices);
    while !choices.is_over() {
        run.step(&mut choices);
    }
    run.pass(1_000);
    assert_eq!(run.demuxer.next_timeout(), None);
});

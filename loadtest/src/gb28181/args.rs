//! The command line of `gb28181-device`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::ps::{Lengths, Style};
use super::xml::Charset;
use crate::args::LoadArgs;
use crate::units::Rate;

/// Of the first device, and of its first channel.
pub const DEVICE_ID: &str = "34020000001110000001";
pub const CHANNEL_ID: &str = "34020000001310000001";

/// Plays GB/T 28181 devices: cameras and recorders that register with a platform, answer its queries, and send media when they are invited.
///
/// What happens is told on the standard output, one JSON object per line: registered, refused, query, control, invite, media, info, bye,
/// talk, and so on. Lines on the standard input are commands: `go` (media that --hold holds), `alarm`, `position`, `online N`, `offline N`
/// (the state of channel N), `bye` (ends all calls), `sent` (tells how far they are), `unregister`, `register`, `vanish`.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceArgs {
    /// Where the platform speaks SIP: HOST:PORT
    #[arg(long, default_value = "127.0.0.1:5060")]
    pub server: String,
    /// How SIP goes
    #[arg(long, value_enum, default_value = "udp")]
    pub sip: SipTransport,
    /// The platform's 20 digits
    #[arg(long, default_value = "34020000002000000001")]
    pub server_id: String,
    /// The realm, which is the host of SIP addresses
    #[arg(long, default_value = "3402000000")]
    pub domain: String,
    #[arg(long, default_value = "")]
    pub password: String,
    /// How many devices; their numbers count up
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub devices: u16,
    /// The 20 digits of the first device
    #[arg(long, default_value = DEVICE_ID)]
    pub id: String,
    /// The 20 digits of the first device's first channel; those of all devices count up
    #[arg(long, default_value = CHANNEL_ID)]
    pub channel_id: String,
    /// Channels of each device
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub channels: u16,
    /// Each device also lists a loudspeaker, which broadcasts go to
    #[arg(long)]
    pub speaker: bool,
    /// All devices speak over one socket
    #[arg(long)]
    pub shared_socket: bool,
    /// For how long to register, in seconds
    #[arg(long, default_value_t = 3600)]
    pub expires: u64,
    #[arg(long, default_value_t = 60_000)]
    pub keepalive_ms: u64,
    /// How long to wait after a registration that failed
    #[arg(long, default_value_t = 60_000)]
    pub retry_ms: u64,
    /// What to send: an FLV file with H.264 or H.265, and AAC or G.711; or a program stream, as it is. Without: the generator's own clip,
    /// whose pictures carry marks
    #[arg(long, value_name = "FLV|PS")]
    pub clip: Option<PathBuf>,
    /// For `--quirk changes-codec`: the clip that is sent in turn with the first
    #[arg(long, value_name = "FLV")]
    pub then: Option<PathBuf>,
    /// Bit rate, frames per second and time between keyframes of the generator's own clip
    #[arg(long, default_value = "2M")]
    pub rate: Rate,
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub fps: u32,
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub gop_ms: u64,
    /// Live media ends with the clip instead of beginning again
    #[arg(long)]
    pub once: bool,
    /// Media waits for the command `go`
    #[arg(long)]
    pub hold: bool,
    /// Recordings that are found in any span of time
    #[arg(long, default_value_t = 3)]
    pub records: u32,
    /// Items per MESSAGE of a long answer
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub items: u32,
    /// How the sound of a broadcast comes
    #[arg(long, value_enum, default_value = "udp")]
    pub talk: TalkTransport,
    /// What this device does as it should not; several are separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    pub quirk: Vec<Quirk>,
    /// For `--quirk late-200`: how late
    #[arg(long, default_value_t = 8_000)]
    pub late_ms: u64,
    /// For `--quirk vanishes`: so long after its first media
    #[arg(long, default_value_t = 2_000)]
    pub vanish_ms: u64,
    /// Ends, in order, after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub r#for: Option<u64>,
}

/// The options that nobody gives have their defaults here too.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    args: DeviceArgs,
}

impl DeviceArgs {
    /// The devices that publish in a run of the load generator.
    pub fn of_load(load: &LoadArgs) -> DeviceArgs {
        DeviceArgs {
            server: load.sip.clone(),
            password: load.sip_password.clone(),
            devices: load.publishers,
            rate: load.rate,
            fps: load.fps,
            gop_ms: load.gop_ms,
            ..Defaults::parse_from(["gb28181-device"]).args
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SipTransport {
    Udp,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TalkTransport {
    Udp,
    /// The device connects
    TcpConnect,
    /// The device listens
    TcpListen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Quirk {
    /// No stream map in program streams
    NoPsm,
    /// No system header in program streams
    NoSystemHeader,
    /// PES packets of video say that they are 0 bytes long
    ZeroPesLength,
    /// PES packets of video say that they are 20 bytes shorter than they are
    WrongPesLength,
    /// Sound has no pack header of its own
    BareAudio,
    /// RTP has another SSRC than was agreed
    WrongSsrc,
    /// The answer's y= lacks its leading zero
    SsrcNineDigits,
    /// The answer has no y=
    NoY,
    /// Lines of SDP end with LF alone
    LfOnly,
    /// SIP headers under their short names
    CompactHeaders,
    /// Agrees to a call (and connects, over TCP), and sends nothing
    NeverSends,
    /// Agrees to a call over TCP that it should connect for, and does not
    NeverConnects,
    /// Media over UDP comes from 127.0.0.2 and a port that nobody was told of
    SendsFromElsewhere,
    /// Is gone in the middle of a call: no BYE, no keepalive, no answer, no media
    Vanishes,
    /// The clips of --clip and --then in turn, in one call
    ChangesCodec,
    /// Answers invitations with 486 Busy Here
    Busy,
    /// Never answers invitations
    Silent,
    /// Answers invitations late, also those that were cancelled
    #[value(name = "late-200")]
    Late200,
    /// The stream map calls H.265 by the number of H.264
    #[value(name = "h265-as-1b")]
    H265As1b,
    /// H.264 in RTP without program streams (payload type 98); no sound
    RtpRawH264,
    /// Contact and Via name an address that cannot be reached
    Nat,
    /// Names of channels have characters of GB18030 that GB2312, which is declared, lacks
    Gb18030,
    /// XML is UTF-8, and says that it is GB2312
    Utf8,
    /// Every SIP message comes twice
    Retransmits,
    /// RTP markers also inside of pictures
    DoubleMarker,
    /// How long a registration holds is told in its Contact only
    ContactExpires,
    /// Times of recorded media are those of the recording: they run with the speed and jump with a seek
    RecordedTimes,
}

/// The same, one by one.
#[derive(Clone, Debug)]
pub struct Quirks {
    pub style: Style,
    pub charset: Charset,
    pub wrong_ssrc: bool,
    pub nine_digits: bool,
    pub no_y: bool,
    pub lf_only: bool,
    pub compact: bool,
    pub never_sends: bool,
    pub never_connects: bool,
    pub elsewhere: bool,
    pub vanishes: bool,
    pub changes_codec: bool,
    pub busy: bool,
    pub silent: bool,
    pub late: bool,
    pub raw_h264: bool,
    pub nat: bool,
    pub retransmits: bool,
    pub double_marker: bool,
    pub contact_expires: bool,
    pub recorded_times: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Quirks::of(&[])
    }
}

impl Quirks {
    pub fn of(list: &[Quirk]) -> Quirks {
        let has = |quirk| list.contains(&quirk);
        let lengths = match (has(Quirk::ZeroPesLength), has(Quirk::WrongPesLength)) {
            (true, _) => Lengths::Zero,
            (false, true) => Lengths::Wrong,
            (false, false) => Lengths::Right,
        };
        let charset = match (has(Quirk::Utf8), has(Quirk::Gb18030)) {
            (true, _) => Charset::Utf8,
            (false, true) => Charset::Gb18030,
            (false, false) => Charset::Gb2312,
        };
        Quirks {
            style: Style {
                no_map: has(Quirk::NoPsm),
                no_system_header: has(Quirk::NoSystemHeader),
                lengths,
                h265_as_h264: has(Quirk::H265As1b),
                bare_audio: has(Quirk::BareAudio),
            },
            charset,
            wrong_ssrc: has(Quirk::WrongSsrc),
            nine_digits: has(Quirk::SsrcNineDigits),
            no_y: has(Quirk::NoY),
            lf_only: has(Quirk::LfOnly),
            compact: has(Quirk::CompactHeaders),
            never_sends: has(Quirk::NeverSends),
            never_connects: has(Quirk::NeverConnects),
            elsewhere: has(Quirk::SendsFromElsewhere),
            vanishes: has(Quirk::Vanishes),
            changes_codec: has(Quirk::ChangesCodec),
            busy: has(Quirk::Busy),
            silent: has(Quirk::Silent),
            late: has(Quirk::Late200),
            raw_h264: has(Quirk::RtpRawH264),
            nat: has(Quirk::Nat),
            retransmits: has(Quirk::Retransmits),
            double_marker: has(Quirk::DoubleMarker),
            contact_expires: has(Quirk::ContactExpires),
            recorded_times: has(Quirk::RecordedTimes),
        }
    }
}

/// Digits, counted up by `by`; what is too large for them begins again.
pub fn count_up(digits: &str, by: u64) -> String {
    let number: u128 = digits.parse().unwrap_or(0);
    let all = format!("{:0width$}", number + u128::from(by), width = digits.len());
    all[all.len() - digits.len()..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_count_up_and_keep_their_length() {
        for (digits, by, expected) in
            [("34020000001110000001", 199, "34020000001110000200"), ("09", 1, "10"), ("99", 2, "01"), ("0000", 0, "0000")]
        {
            assert_eq!(count_up(digits, by), expected);
        }
    }

    #[test]
    fn every_quirk_is_told_in_the_help() {
        for quirk in Quirk::value_variants() {
            let value = quirk.to_possible_value().unwrap();
            assert!(value.get_help().is_some(), "{}", value.get_name());
        }
    }
}

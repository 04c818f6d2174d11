//! The routes below `/api/v1/gb28181` that tell a device to do something: move, presets, recording, alarms.
//!
//! GB/T 28181-2016 A.2.3. Each is answered with 204 once the device has taken it. `docs/API.md` shows the bodies. Not here: the bytes that a
//! device gets (`protocol/gb28181`).

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use serde::Deserialize;

use super::super::api::App;
use super::super::words::read;
use super::api::{Done, PlatformError, channel};
use crate::protocol::gb28181::platform::ask::{Ask, CruiseAction, DeviceControl, PresetAction, ScanAction};

/// Of pan, tilt, focus and iris.
const SPEED_MAX: i16 = 255;
const ZOOM_SPEED_MAX: i8 = 15;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/ptz", post(ptz))
        .route("/ptz_position", post(ptz_position))
        .route("/preset", post(preset))
        .route("/cruise", post(cruise))
        .route("/scan", post(scan))
        .route("/switch", post(switch))
        .route("/drag_zoom", post(drag_zoom))
        .route("/home", post(home))
        .route("/record", post(record))
        .route("/guard", post(guard))
        .route("/alarm_reset", post(alarm_reset))
        .route("/reboot", post(reboot))
        .route("/keyframe", post(keyframe))
}

async fn control(app: &App, device: String, of: Option<String>, control: DeviceControl) -> Done {
    app.done(Ask::Control { of: channel(device, of), control }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PtzBody {
    device: String,
    channel: Option<String>,
    pan: Option<i16>,
    tilt: Option<i16>,
    zoom: Option<i8>,
    focus: Option<i16>,
    iris: Option<i16>,
}

impl PtzBody {
    fn control(&self) -> Result<DeviceControl, PlatformError> {
        let speed = |name, value: Option<i16>| {
            let value = value.unwrap_or(0);
            let bad = PlatformError::BadSpeed { name, max: SPEED_MAX.into() };
            if (-SPEED_MAX..=SPEED_MAX).contains(&value) { Ok(value) } else { Err(bad) }
        };
        let moves = self.pan.is_some() || self.tilt.is_some() || self.zoom.is_some();
        let turns_lens = self.focus.is_some() || self.iris.is_some();
        if moves == turns_lens {
            return Err(PlatformError::BadMove);
        }
        if turns_lens {
            return Ok(DeviceControl::Lens { focus: speed("focus", self.focus)?, iris: speed("iris", self.iris)? });
        }
        let zoom = self.zoom.unwrap_or(0);
        if !(-ZOOM_SPEED_MAX..=ZOOM_SPEED_MAX).contains(&zoom) {
            return Err(PlatformError::BadSpeed { name: "zoom", max: ZOOM_SPEED_MAX.into() });
        }
        Ok(DeviceControl::Move { pan: speed("pan", self.pan)?, tilt: speed("tilt", self.tilt)?, zoom })
    }
}

async fn ptz(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let body: PtzBody = read(&body)?;
    let wanted = body.control()?;
    control(&app, body.device, body.channel, wanted).await
}

/// Where to look: degrees, and the zoom as a factor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PtzPositionBody {
    device: String,
    channel: Option<String>,
    pan: Option<f64>,
    tilt: Option<f64>,
    zoom: Option<f64>,
}

async fn ptz_position(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let PtzPositionBody { device, channel, pan, tilt, zoom } = read(&body)?;
    control(&app, device, channel, DeviceControl::Look { pan, tilt, zoom }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PresetBody {
    device: String,
    channel: Option<String>,
    action: PresetAction,
    number: u8,
}

async fn preset(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let PresetBody { device, channel, action, number } = read(&body)?;
    control(&app, device, channel, DeviceControl::Preset { action, number }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CruiseBody {
    device: String,
    channel: Option<String>,
    action: CruiseAction,
    #[serde(default)]
    group: u8,
    #[serde(default)]
    value: u16,
}

async fn cruise(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let CruiseBody { device, channel, action, group, value } = read(&body)?;
    control(&app, device, channel, DeviceControl::Cruise { action, group, value }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScanBody {
    device: String,
    channel: Option<String>,
    action: ScanAction,
    #[serde(default)]
    group: u8,
    #[serde(default)]
    value: u16,
}

async fn scan(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let ScanBody { device, channel, action, group, value } = read(&body)?;
    control(&app, device, channel, DeviceControl::Scan { action, group, value }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchBody {
    device: String,
    channel: Option<String>,
    number: u8,
    on: bool,
}

async fn switch(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let SwitchBody { device, channel, number, on } = read(&body)?;
    control(&app, device, channel, DeviceControl::Switch { number, on }).await
}

/// Which part of the picture: pixels of a window on which it is shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DragZoomBody {
    device: String,
    channel: Option<String>,
    zoom_in: bool,
    length: u32,
    width: u32,
    mid_x: u32,
    mid_y: u32,
    length_x: u32,
    length_y: u32,
}

async fn drag_zoom(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let DragZoomBody { device, channel, zoom_in, length, width, mid_x, mid_y, length_x, length_y } = read(&body)?;
    let wanted = DeviceControl::DragZoom { zoom_in, length, width, mid_x, mid_y, length_x, length_y };
    control(&app, device, channel, wanted).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HomeBody {
    device: String,
    channel: Option<String>,
    on: bool,
    reset_s: Option<u32>,
    preset: Option<u8>,
}

async fn home(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let HomeBody { device, channel, on, reset_s, preset } = read(&body)?;
    control(&app, device, channel, DeviceControl::HomePosition { on, reset_s, preset }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnBody {
    device: String,
    channel: Option<String>,
    on: bool,
}

async fn record(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let OnBody { device, channel, on } = read(&body)?;
    control(&app, device, channel, DeviceControl::Record { on }).await
}

async fn guard(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let OnBody { device, channel, on } = read(&body)?;
    control(&app, device, channel, DeviceControl::Guard { on }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelBody {
    device: String,
    channel: Option<String>,
}

async fn alarm_reset(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let ChannelBody { device, channel } = read(&body)?;
    control(&app, device, channel, DeviceControl::ResetAlarm).await
}

async fn reboot(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let ChannelBody { device, channel } = read(&body)?;
    control(&app, device, channel, DeviceControl::Reboot).await
}

async fn keyframe(State(app): State<Arc<App>>, body: Bytes) -> Done {
    let ChannelBody { device, channel } = read(&body)?;
    control(&app, device, channel, DeviceControl::KeyFrame).await
}

//! Devices that do anything in any order: what is counted stays right, and nothing grows for ever.

use super::*;
use crate::protocol::common::random::SplitMix64;
use crate::protocol::gb28181::platform::ask::{DeviceControl, RecordKind};

const STEPS: usize = 3_000;

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next() % limit
    }
}

fn hop_of(random: &mut Random, device: u64) -> Hop {
    let peer = format!("192.0.2.{}:{}", device + random.below(8) / 7, 5_060 + random.below(2));
    if random.below(3) == 0 { tcp(&peer, random.below(3)) } else { udp(&peer) }
}

/// What a device may send, right or not.
fn body(random: &mut Random, last_sn: u64) -> String {
    let sn = last_sn.saturating_sub(random.below(6));
    let items: Vec<String> = (0..random.below(4)).map(|_| item(&format!("{}", random.below(9)), "n")).collect();
    match random.below(9) {
        0 | 1 => catalog_part(sn, random.below(5) as usize, &items),
        2 => format!(
            "<Response><CmdType>RecordInfo</CmdType><SN>{sn}</SN><SumNum>2</SumNum><RecordList>{}</RecordList></Response>",
            items.concat()
        ),
        3 => format!("<Response><CmdType>DeviceControl</CmdType><SN>{sn}</SN><Result>OK</Result></Response>"),
        4 => format!("<Response><CmdType>PresetQuery</CmdType><SN>{sn}</SN><PresetList/></Response>"),
        5 => format!("<Response><CmdType>DeviceInfo</CmdType><SN>{sn}</SN><DeviceName>x</DeviceName></Response>"),
        6 => {
            let event = ["ON", "OFF", "ADD", "DEL", "UPDATE", "?"][random.below(6) as usize];
            let id = random.below(12);
            format!(
                "<Notify><CmdType>Catalog</CmdType><DeviceList><Item><DeviceID>{id}</DeviceID><Event>{event}</Event></Item></DeviceList></Notify>"
            )
        }
        7 => "<Notify><CmdType>Alarm</CmdType><SN>1</SN><DeviceID>1</DeviceID></Notify>".to_owned(),
        _ => "<Notify><CmdType>Keepalive</CmdType>".to_owned(),
    }
}

fn step(world: &mut World, random: &mut Random) {
    let device = random.below(4);
    let id = (1_001 + device).to_string();
    let hop = hop_of(random, device);
    match random.below(14) {
        0 => {
            let challenge = world.register_once(hop, &id, "", None, "60").headers.get("WWW-Authenticate").map(str::to_owned);
            let expires = ["0", "30", "600", "86400", "x"][random.below(5) as usize];
            if let Some(challenge) = challenge {
                world.register_once(hop, &id, PASSWORD, Some(&challenge), expires);
            }
        }
        1 => drop(world.keepalive(hop, &id)),
        2..=6 => {
            let body = body(random, world.devices.last_sn);
            world.message(hop, &id, &body);
        }
        7 => {
            let call_id = world.devices.dialogs.keys().min().cloned().unwrap_or_default();
            let state = ["active;expires=5", "terminated", "", "active"][random.below(4) as usize];
            let fill = |request: &mut Request| {
                request.headers.set("Call-ID", &call_id);
                request.headers.push("Subscription-State", state);
            };
            world.request(hop, &id, Method::Notify, fill);
        }
        8 => {
            let of = Channel { device: id.clone(), channel: "1".to_owned() };
            world.ask(match random.below(5) {
                0 => Ask::Refresh(id),
                1 => Ask::Records { of, from_unix_s: 0, to_unix_s: 1, kind: RecordKind::All },
                2 => Ask::Presets(of),
                3 => Ask::Control { of, control: DeviceControl::Guard { on: true } },
                _ => Ask::Forget(id),
            });
        }
        9 => world.run(|devices, context| devices.closed(context, ConnectionId(random.below(3)))),
        10 | 11 => {
            for (hop, request) in world.requests() {
                let status = [200, 200, 200, 404, 481][random.below(5) as usize];
                if random.below(4) != 0 {
                    world.answer(hop, &request, status, &[("Expires", "20")]);
                }
            }
        }
        12 => world.pass(random.below(2_000)),
        _ => world.pass(random.below(90_000)),
    }
}

fn check(world: &World) {
    let devices = &world.devices;
    let kept: usize = devices.by_id.values().map(|device| device.channels.bytes()).sum();
    assert_eq!(devices.bytes.used(), kept + devices.queries.values().map(|query| query.bytes()).sum::<usize>());
    let under_way: usize = devices.by_id.values().map(|device| device.queries.len()).sum();
    assert_eq!(under_way, devices.queries.len());
    for timer in devices.timers.iter().map(|(_, timer)| timer) {
        match timer {
            Timer::Presence(id) => assert!(devices.by_id.contains_key(id)),
            Timer::Query(sn) => assert!(devices.queries.contains_key(sn)),
            Timer::Subscription(id, place) => assert!(devices.by_id[id].subscriptions.has(*place)),
        }
    }
    assert!(devices.timers.len() <= devices.queries.len() + 4 * devices.by_id.len());
    assert!(devices.dialogs.len() <= 3 * devices.by_id.len() && devices.by_peer.len() <= devices.by_id.len());
    let connected = devices.by_id.iter().filter_map(|(id, device)| match device.hop?.carrier {
        Carrier::Tcp(connection) => Some((connection, id.clone())),
        Carrier::Udp => None,
    });
    let known = devices.by_connection.iter().flat_map(|(connection, ids)| ids.iter().map(|id| (*connection, id.clone())));
    assert_eq!(connected.collect::<BTreeSet<_>>(), known.collect());
    assert!(devices.by_connection.values().all(|ids| !ids.is_empty()));
    assert!(devices.by_id.len() <= 4 && devices.sent.len() <= world.transactions.len());
}

#[test]
fn what_is_counted_stays_right_whatever_devices_do() {
    for seed in 0..3 {
        let subscribe = vec![Subscription::Catalog, Subscription::Alarm, Subscription::MobilePosition];
        let settings = Gb28181 { password: PASSWORD.to_owned(), subscribe, ..Gb28181::default() };
        let (mut world, mut random) = (World::with(settings), Random(SplitMix64::new(seed)));
        for _ in 0..STEPS {
            step(&mut world, &mut random);
            check(&world);
            world.out.clear();
            world.devices.take_news();
        }
        // Every question is answered in the end.
        world.pass(1_000_000_000);
        check(&world);
        assert!(world.devices.queries.is_empty() && world.devices.sent.is_empty());
    }
}

//! Which addresses a request may go to. A table over address ranges, no lookup: an address that embeds another (mapped,
//! translated, tunnelled) is what the embedded one is. What is not known to be public is not public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Anybody's, on the public internet.
    Public,
    /// On this machine or a network of the owner's: only where the owner says so.
    Private(&'static str),
    /// Nobody's business, whatever the grant says.
    Never(&'static str),
}

/// Addresses at which clouds give credentials away to whoever runs on the machine.
const METADATA_V4: [Ipv4Addr; 5] = [
    // AWS, Google, Azure and most others; AWS's for tasks; Oracle's; Azure's own wire server; Alibaba's.
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
];
const METADATA_V6: [Ipv6Addr; 2] = [
    // AWS, for instances and for containers; Google.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// What kind of place an address is.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

/// The ranges of RFC 6890 and its successors.
fn reach_v4(address: Ipv4Addr) -> Reach {
    if METADATA_V4.contains(&address) {
        return Reach::Never("a cloud's metadata service");
    }
    match address.octets() {
        [0, ..] => Reach::Never("unspecified"),
        [127, ..] => Reach::Private("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private("private"),
        [100, 64..=127, ..] => Reach::Private("shared by a carrier (CGNAT)"),
        [169, 254, ..] => Reach::Never("link-local"),
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => {
            Reach::Never("reserved")
        }
        [198, 18..=19, ..] => Reach::Never("for benchmarks"),
        [224..=239, ..] => Reach::Never("multicast"),
        [240..=255, ..] => Reach::Never("reserved or broadcast"),
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if METADATA_V6.contains(&address) {
        return Reach::Never("a cloud's metadata service");
    }
    if address.is_unspecified() {
        return Reach::Never("unspecified");
    }
    if address.is_loopback() {
        return Reach::Private("loopback");
    }
    let segments = address.segments();
    let v4_of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped, compatible, translated (RFC 2765), by the well-known NAT64 prefix, 6to4; and ISATAP, where the interface's
        // half embeds the address.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, high, low] => v4_of(high, low),
        // NAT64 of somebody's own: where the address stands in it depends on his prefix.
        [0x64, 0xff9b, ..] => Reach::Never("an IPv4 address translated by a prefix of somebody's own"),
        [0x2001, 0, ..] => Reach::Never("a Teredo tunnel"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Never("for documentation"),
        [0x2001, 0..=0x1ff, ..] => Reach::Never("reserved"),
        [0xfc00..=0xfdff, ..] => Reach::Private("private (ULA)"),
        [0xfe80..=0xfebf, ..] => Reach::Never("link-local"),
        [0xfec0..=0xfeff, ..] => Reach::Never("site-local"),
        [0xff00..=0xffff, ..] => Reach::Never("multicast"),
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_address() {
        use Reach::{Never, Private, Public};
        let (public, private, never) = (Public, Private(""), Never(""));
        for (address, want) in [
            ("8.8.8.8", public),
            ("172.15.255.255", public),
            ("172.32.0.1", public),
            ("100.63.255.255", public),
            ("100.128.0.1", public),
            ("192.0.1.1", public),
            ("223.255.255.255", public),
            ("2606:4700::1", public),
            ("3ffe::1", public),
            ("::ffff:8.8.8.8", public),
            ("64:ff9b::8.8.8.8", public),
            ("2002:808:808::1", public),
            ("127.0.0.1", private),
            ("127.255.255.254", private),
            ("10.0.0.1", private),
            ("172.16.0.1", private),
            ("172.31.255.255", private),
            ("192.168.1.1", private),
            ("100.64.0.1", private),
            ("100.127.255.255", private),
            ("::1", private),
            ("fc00::1", private),
            ("fdff::1", private),
            ("::ffff:127.0.0.1", private),
            ("::ffff:10.0.0.1", private),
            ("::ffff:0:10.0.0.1", private),
            ("::127.0.0.1", private),
            ("64:ff9b::192.168.0.1", private),
            ("2002:7f00:1::1", private),
            ("2002:7f00:1::5efe:8.8.8.8", private),
            ("2606:4700::5efe:10.0.0.1", private),
            ("2606:4700::200:5efe:10.0.0.1", private),
            ("0.0.0.0", never),
            ("0.1.2.3", never),
            ("169.254.0.1", never),
            ("169.254.169.254", never),
            ("169.254.170.2", never),
            ("100.100.100.200", never),
            ("168.63.129.16", never),
            ("192.0.0.192", never),
            ("192.0.0.1", never),
            ("192.0.2.1", never),
            ("192.88.99.1", never),
            ("198.18.0.1", never),
            ("198.19.255.255", never),
            ("198.51.100.1", never),
            ("203.0.113.1", never),
            ("224.0.0.1", never),
            ("239.255.255.250", never),
            ("240.0.0.1", never),
            ("255.255.255.255", never),
            ("::", never),
            ("::ffff:0.0.0.0", never),
            ("::ffff:169.254.169.254", never),
            ("64:ff9b::169.254.169.254", never),
            ("64:ff9b:1::8.8.8.8", never),
            ("2002:a9fe:a9fe::", never),
            ("2001::1", never),
            ("2001:db8::1", never),
            ("2001:10::1", never),
            ("3fff::1", never),
            ("fd00:ec2::254", never),
            ("fd20:ce::254", never),
            ("fe80::1", never),
            ("febf::1", never),
            ("fec0::1", never),
            ("ff02::1", never),
            ("100::1", never),
            ("4000::1", never),
        ] {
            let got = reach(address.parse().unwrap());
            let same = std::mem::discriminant(&got) == std::mem::discriminant(&want);
            assert!(same, "{address}: {got:?}, not {want:?}");
        }
    }
}

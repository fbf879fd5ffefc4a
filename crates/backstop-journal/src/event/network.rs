//! A range of internet addresses, as a key's scope names it: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses (CIDR, RFC 4632 and RFC 4291). IPv4 addresses that are mapped into IPv6 (`::ffff:10.0.0.1`) are
/// IPv4 addresses here, on both sides: a listener on `[::]` sees its IPv4 peers so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// The first address.
    first: IpAddr,
    /// How many bits all addresses have in common.
    bits: u8,
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// It is written in another way.
    #[error("addresses are written like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7")]
    Form,
    /// The address has bits beyond the prefix: a slip in one of the two.
    #[error("it has bits beyond its prefix; the range that holds it is {0}")]
    Beyond(Network),
}

impl Network {
    /// Whether an address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.bits) == self.first
    }

    /// The range of this size that an address is in. `bits` is cut to what the family has.
    pub fn around(address: IpAddr, bits: u8) -> Self {
        let address = address.to_canonical();
        let bits = bits.min(width(address));
        Self { first: masked(address, bits), bits }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with only its first bits.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork::Form)?;
        let bits = match bits {
            None => width(address),
            // `+8` and `08` are numbers to the parser and slips here.
            Some(bits) if bits.starts_with(['+', '0']) && bits != "0" => return Err(BadNetwork::Form),
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width(address)).ok_or(BadNetwork::Form)?,
        };
        // A range of mapped addresses is the range that they are mapped from; a wider one keeps to IPv6.
        let found = match address {
            IpAddr::V6(v6) if bits >= 96 && is_mapped(v6) => Self::around(address, bits - 96),
            _ => Self { first: masked(address, bits), bits },
        };
        let exact = if found.first.is_ipv4() { address.to_canonical() } else { address };
        if exact == found.first { Ok(found) } else { Err(BadNetwork::Beyond(found)) }
    }
}

fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// A single address is written without its prefix.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.bits < width(self.first) { write!(f, "/{}", self.bits) } else { Ok(()) }
    }
}

impl TryFrom<String> for Network {
    type Error = BadNetwork;
    fn try_from(text: String) -> Result<Self, BadNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_range() {
        // range, inside, outside
        let rows: [(&str, &[&str], &[&str]); 9] = [
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], &["11.0.0.0", "::a00:1"]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.128/25", &["192.0.2.128", "192.0.2.255"], &["192.0.2.127"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::1", "2001:db8::1"]),
            ("::/0", &["::1", "2001:db8::1"], &["1.2.3.4", "::ffff:1.2.3.4"]),
            ("2001:db8::/32", &["2001:db8::", "2001:db8:ffff::1"], &["2001:db9::", "32.1.13.184"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("::ffff:10.0.0.0/104", &["10.1.2.3", "::ffff:10.1.2.3"], &["11.0.0.0"]),
            ("fe80::/10", &["fe80::1", "febf::1"], &["fec0::1"]),
        ];
        for (range, inside, outside) in rows {
            let network: Network = range.parse().unwrap();
            for address in inside {
                assert!(network.contains(address.parse().unwrap()), "{address} is in {range}");
            }
            for address in outside {
                assert!(!network.contains(address.parse().unwrap()), "{address} is not in {range}");
            }
        }
    }

    #[test]
    fn how_ranges_are_written() {
        let rows = [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ];
        for (text, shown) in rows {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), shown);
            assert_eq!(shown.parse(), Ok(network));
        }
        let words = "addresses are written like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7";
        for bad in ["", "10", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/08", "a/8", "/8"]
        {
            assert_eq!(bad.parse::<Network>().unwrap_err().to_string(), words, "{bad}");
        }
        for (bad, meant) in [("10.1.0.0/8", "10.0.0.0/8"), ("2001:db8::1/64", "2001:db8::/64")] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork::Beyond(meant.parse().unwrap())));
        }
    }
}

//! Links to one question that are sent to people: signed, and good for as long as the question stands. A link shows the
//! question and does nothing else, since what reads messages for people follows their links.

use backstop_call::{ApprovalId, Timestamp};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The file with the key, in the directory that everything is kept in.
const FILE: &str = "link.key";

/// What links are signed with. It outlives the process, as the questions do.
#[derive(Clone)]
pub struct LinkKey([u8; 32]);

impl LinkKey {
    /// The key of this installation; it is made when there is none yet. No tool reaches the directory, and nobody else may
    /// read the file.
    ///
    /// # Errors
    /// The file cannot be read or made, is no key, or others may read it.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        if !path.exists() {
            make(data_dir, &path)?;
        }
        if fs::metadata(&path)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        }
        let bytes = fs::read(&path)?;
        let key = bytes.try_into();
        key.map(Self).map_err(|_| io::Error::other(format!("{} is no key; remove it", path.display())))
    }

    /// The path and query of the link to a question.
    pub(crate) fn path(&self, approval: &ApprovalId, until: Timestamp) -> String {
        let until = until.nanos();
        format!("/approvals/{approval}?until={until}&sig={}", self.sign(approval.as_str(), until).to_hex())
    }

    /// Whether a query is a link's to this question, and still good.
    pub(crate) fn opens(&self, approval: &str, query: &str, now: Timestamp) -> bool {
        let mut until = None;
        let mut signature = None;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "until" => until = value.parse::<u64>().ok(),
                "sig" => signature = blake3::Hash::from_hex(value.as_bytes()).ok(),
                _ => {}
            }
        }
        // Hashes are compared in constant time.
        let signed = |until| signature == Some(self.sign(approval, until));
        until.is_some_and(|until| until > now.nanos() && signed(until))
    }

    fn sign(&self, approval: &str, until: u64) -> blake3::Hash {
        blake3::keyed_hash(&self.0, format!("{until}\n{approval}").as_bytes())
    }
}

/// Makes the key whole or not at all; whoever is first has made it for all.
fn make(data_dir: &Path, path: &Path) -> io::Result<()> {
    let mut key = [0_u8; 32];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let own = data_dir.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&own)?;
    file.write_all(&key)?;
    file.sync_all()?;
    let linked = fs::hard_link(&own, path);
    fs::remove_file(&own)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_link_opens_its_question_until_it_ends_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let key = LinkKey::open(dir.path()).unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        let until = now + Duration::from_mins(5);
        let path = key.path(&"01abc".into(), until);
        let query = path.strip_prefix("/approvals/01abc?").unwrap();
        assert!(key.opens("01abc", query, now));
        assert!(!key.opens("01abd", query, now), "another question");
        assert!(!key.opens("01abc", query, until), "not a moment longer");
        assert!(!key.opens("01abc", &query.replace("until=1", "until=2"), now), "not by changing it");
        assert!(!key.opens("01abc", "", now));
        assert!(LinkKey::open(dir.path()).unwrap().opens("01abc", query, now), "after a restart too");
        let other = tempfile::tempdir().unwrap();
        assert!(!LinkKey::open(other.path()).unwrap().opens("01abc", query, now), "not elsewhere");
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.path().join(FILE), "short").unwrap();
        assert!(LinkKey::open(dir.path()).is_err());
    }
}

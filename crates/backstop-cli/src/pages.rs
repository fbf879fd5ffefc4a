//! The pages of the error codes, compiled in: `docs/errors/BS####.md`. A test holds the list, the codes and the files
//! together.

use backstop_call::Code;

macro_rules! pages {
    ($($number:literal)*) => {
        /// Each code's number with its page.
        const PAGES: &[(u16, &str)] =
            &[$(($number, include_str!(concat!("../../../docs/errors/BS", $number, ".md"))),)*];
    };
}

pages! {
    1001 1002 1003 1004 1005 1006 1007 1008 1009 1010 1011 1012 1013 2001 2002 2003 2004 2005 2006 2007 2008
    2009 2010 2011 2012 2013 2014 2015 2016 2017 2018 3001 3002 4001 4002 4003 4004 4005 4006 4007 4008 4009 4010 4011 4012
    5001 5002 5003 5004 5005 5006 5007 5008 5009 5010 5011 5012 5013 5014 5015 5016 5017 6001 6002 6003 6004 6005 6006 6007 6008
    6009 6010 6011 6012 6013 6014 6015 6016 6017 9001
}

/// The page of a code.
pub(crate) fn page(code: Code) -> &'static str {
    PAGES.iter().find(|(number, _)| *number == code.number()).map_or("", |(_, page)| page)
}

/// The first line of a code's page, without the code.
pub(crate) fn title(code: Code) -> &'static str {
    let line = page(code).lines().next().unwrap_or_default().trim_start_matches('#').trim();
    line.split_once(':').map_or(line, |(_, title)| title.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        for code in Code::ALL {
            assert!(page(*code).starts_with(&format!("# {code}: ")), "{code} has no page");
            assert!(!title(*code).is_empty(), "{code}");
        }
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
        let files =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(files.filter(|name| name.starts_with("BS")).count(), PAGES.len());
        assert_eq!(PAGES.len(), Code::ALL.len());
    }

    /// A sample is what the terminal shows: the error with its own code, the place if it stands in a file, the hint.
    #[test]
    fn every_page_begins_with_what_the_terminal_shows() {
        for code in Code::ALL {
            let sample = page(*code).split("```").nth(1).and_then(|block| block.strip_prefix("text\n"));
            let lines: Vec<_> = sample.unwrap_or_default().trim_end().lines().collect();
            let (first, rest) = lines.split_first().unwrap_or_else(|| panic!("{code} has no sample"));
            let message = first.strip_prefix(&format!("error[{code}]: ")).unwrap_or_default();
            assert!(!message.is_empty(), "{code}: {first}");
            if *code == Code::Usage {
                // The parser of the command line tells these in its own shape.
                assert_eq!(rest.last(), Some(&"For more information, try '--help'."));
                continue;
            }
            let (hint, place) = rest.split_last().unwrap_or_else(|| panic!("{code} has no hint"));
            assert!(hint.starts_with("hint: "), "{code}: {hint}");
            let is_place =
                |line: &&str| line.starts_with("  --> backstop.toml:") && line.split(':').count() == 3;
            assert!(place.len() <= 1 && place.iter().all(is_place), "{code}: {place:?}");
            assert!(!message.contains("backstop.toml:"), "{code}: a place stands in a line of its own");
        }
    }
}

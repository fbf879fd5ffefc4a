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
    1001 1002 1003 1004 1005 1006 1007 1008 1009 1010 1011 1012 2001 2002 2003 2004 2005 2006 2007 2008
    2009 2010 2011 2012 2013 2014 2015 2016 2017 2018 3001 3002 4001 4002 4003 4004 4005 4006 4007 4008
    5001 5002 5003 5004 5005 5006 5007 5008 5009 5010 5011 9001
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
}

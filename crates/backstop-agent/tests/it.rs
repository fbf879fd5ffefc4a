//! The agent against a real journal, real files and real processes.

//! Help texts.

use super::kit::Place;
use expect_test::expect;

#[test]
fn the_overview() {
    let done = Place::new().run(&["--help"]);
    expect![[r#"
        exit 0
        --- stdout
        Keep AI agents running in production

        A task goes to a model that works on real files with tools until it is done: through rate limits,
        outages, malformed answers and a killed process, without a cent over budget and without doing
        anything twice.

        Usage: backstop [OPTIONS] <COMMAND>

        Commands:
          run      Do a task with a model and tools on the files of a directory
          resume   Take a run up where it was left
          resolve  Say what is true about a tool call in doubt
          runs     List runs, newest first
          show     Tell the whole story of a run
          logs     Print the JSON log lines, one per event
          init     Write a commented backstop.toml
          check    Check the config, and probe each provider
          serve    Serve agents that exist already, in any language
          sim      Serve a simulated provider that fails on schedule
          demo     See it work: a dozen tasks through a storm of failures
          explain  Explain an error code, or the order of the stack
          help     Print this message or the help of the given subcommand(s)

        Options:
              --config <FILE>
                  Use this config file [default: ./backstop.toml, if there is one]

              --data-dir <DIR>
                  Keep everything in this directory [default: .backstop beside the config file]

          -h, --help
                  Print help (see a summary with '-h')

          -V, --version
                  Print version

        Examples:
          backstop demo                                  See it work, without any key
          backstop run "Summarise notes.md into out.md"   Do a task in this directory
          backstop runs                                  List what was run
          backstop show 01k                              Tell the whole story of a run
          backstop explain BS2003                        Look up an error

        Exit codes: 0 done, 1 the answer is no, 2 you must change something, 3 upstream failed.
    "#]]
    .assert_eq(&done.shown());
}

#[test]
fn run_in_full() {
    let done = Place::new().run(&["run", "--help"]);
    expect![[r#"
        exit 0
        --- stdout
        Do a task with a model and tools on the files of a directory

        The result goes to standard output, what happens on the way to standard error. Whatever stops it
        (Ctrl-C, a limit, a budget, a crash) leaves a run that `backstop resume` takes up where it was.

        Usage: backstop run [OPTIONS] [TASK]

        Arguments:
          [TASK]
                  What is to be done; read from standard input when left out

        Options:
              --config <FILE>
                  Use this config file [default: ./backstop.toml, if there is one]

              --file <FILE>
                  Read the task from this file

              --agent <NAME>
                  Run it as this agent of the config

              --data-dir <DIR>
                  Keep everything in this directory [default: .backstop beside the config file]

              --model <NAME>
                  Ask this model or chain; `sim` is always there and needs no key

              --workspace <DIR>
                  Work in this directory; nothing outside it is read or written

                  [default: .]

              --id <ID>
                  Your own id for it, for logs and lists

              --max-cost <DOLLARS>
                  Spend at most so many dollars

              --time <SPAN>
                  Work at most so long [default: 3m]

              --turns <N>
                  Ask the model at most so often [default: 50]

              --tokens <N>
                  Use at most so many tokens [default: 1000000]

              --json
                  Print JSON

          -q, --quiet
                  Show nothing while it runs

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          backstop run "Write the sum of the column amount of expenses.csv to total.txt"
          backstop run --agent writer --workspace docs/ "Shorten intro.md"
          backstop run --file task.md --max-cost 0.50 --time 10m --json
          echo "Count the words in notes.md" | backstop run --model sim
    "#]]
    .assert_eq(&done.shown());
}

#[test]
fn a_code_is_explained() {
    let done = Place::new().run(&["explain", "bs3001"]);
    assert_eq!(done.code, 0);
    assert!(done.out.starts_with("# BS3001: "), "{}", done.out);
    let json = Place::new().run(&["explain", "--json"]);
    let codes: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(codes.as_array().unwrap().len(), backstop_call::Code::ALL.len());
}

#[test]
fn the_stack_is_explained_from_the_code() {
    let done = Place::new().run(&["explain", "stack"]);
    expect![[r#"
        exit 0
        --- stdout
        A model call passes these layers, from the top:

          record      appends what happened to the journal
          redact      takes secrets out of what is sent and what comes back
          route       finds the chain that the call asks for by name
          privacy     private text goes to local models only, or nowhere
          attempt     retries and fails over: one count, one deadline, one commit point
          breaker     keeps calls away from a target that fails
          validate    refuses what cannot work, and answers that break their protocol
          limit       keeps to requests and tokens per minute, and to calls at once
          budget      reserves the worst case of an attempt, and settles what it cost
          timeout     bounds one attempt: in all, to its first byte, between two chunks
          leaf        the provider: sends the request and reads the answer
    "#]]
    .assert_eq(&done.shown());
}

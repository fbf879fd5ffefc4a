//! What the tests share: a tool is called as a run would, by its schema, its plan, and then itself.

use backstop_agent::tool::Job;
use backstop_agent::{Plan, Tool, ToolContext, ToolError, Toolbox, Workspace};
use backstop_call::{Block, Labels};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// A run's place: a directory of its own.
pub(crate) struct Room {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) context: ToolContext,
}

impl Room {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let context = ToolContext {
            run: "r".into(),
            call: "c".into(),
            workspace: Some(Arc::new(Workspace::open(dir.path()).unwrap())),
            labels: Labels::default(),
            undone: None,
            rehearsed: None,
        };
        Self { dir, context }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The plan of a call, after its arguments were checked by the schema.
    pub(crate) async fn plan(&self, tool: &Arc<dyn Tool>, args: &Value) -> Result<Plan, String> {
        let mut toolbox = Toolbox::new();
        toolbox.add(Arc::clone(tool)).unwrap();
        toolbox.check(&tool.spec().name, args)?;
        tool.plan(args, &self.context).await.map_err(|error| error.to_string())
    }

    /// What a call gives: the text, or the error that the model is told.
    pub(crate) async fn call(&self, tool: &Arc<dyn Tool>, args: Value) -> Result<String, String> {
        let plan = self.plan(tool, &args).await?;
        let job = Job { args, plan: plan.body, key: "k".into() };
        self.run(tool, &job).await.map_err(|error| error.to_string())
    }

    /// The call itself.
    pub(crate) async fn run(&self, tool: &Arc<dyn Tool>, job: &Job) -> Result<String, ToolError> {
        let output = tool.run(job, &self.context).await?;
        Ok(output.content.iter().filter_map(Block::as_text).collect())
    }
}

"""Downstream tasks: what is asked, where the rows come from, and how an answer is scored."""

from gpuday.evaluate.tasks.own import own_task as own_task
from gpuday.evaluate.tasks.own import unlabelled_rows as unlabelled_rows
from gpuday.evaluate.tasks.rows import Rows as Rows
from gpuday.evaluate.tasks.rows import TaskData as TaskData
from gpuday.evaluate.tasks.selection import Selection as Selection
from gpuday.evaluate.tasks.selection import load as load
from gpuday.evaluate.tasks.selection import parse_tasks as parse_tasks
from gpuday.evaluate.tasks.selection import suite as suite
from gpuday.evaluate.tasks.task import Task as Task

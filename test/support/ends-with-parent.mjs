// Loaded into a program that a test starts: the program is told to end as soon as its parent is gone, however that
// has ended. It then cleans up as on SIGTERM, and ends its own children.

process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
// The channel does not keep the program running.
process.channel?.unref();
// What the program itself starts is for the program to end.
process.execArgv.splice(0);

// The Lua script of a shared quota. It touches one key, which holds all windows of the quota, so a call takes its
// amounts of all of them or of none.
//
// The state, packed by MessagePack: for each window a log of what was spent (times and amounts, in the order of times), and
// for each node its lease: what it may still spend, and until when. The rule: what is spent and what is on lease is
// together at most the quota. A node reports what it has spent, and how long ago. What a lease still holds when it ends
// counts as spent at that moment. So each unit counts from the grant until a window after it was spent, and no interval of
// a window's length contains more than its quota.
//
// Every call ends the node's lease: the node reports what it has spent of it, and the rest is free again. So a lost reply,
// whose grant the node never had, is put right by the next call. Calls of a node are numbered: one that arrives after
// a later one changes nothing, and what a lost reply's call has logged already is not logged again.
//
// Nodes whose request was refused wait in a line, each with what its request needs. A node gets only what the nodes before it
// do not need, so a large request is not overtaken for ever by small ones of other nodes.

import { createHash } from 'node:crypto';
import { READ_CLOCK } from '../store/heartbeat-scripts.js';
import { BEGIN, type Script } from '../store/limit-scripts.js';

/** A call of the script, as JSON. Times are seconds. */
export interface QuotaCall {
  /** The number of this call, from 1. */
  readonly id: number;
  /** The number of the last answered call if its lease has not ended at the node; else 0. */
  readonly known: number;
  /** The epoch that the store replied last, empty if all that it may remember is over; and one for a new state. */
  readonly epoch: string;
  readonly newEpoch: string;
  readonly windows: readonly {
    readonly quota: number;
    readonly seconds: number;
    readonly unit: string;
  }[];
  /** The units of the windows. The amounts of `spent`, `first` and `ahead` are in this order. */
  readonly units: readonly string[];
  /**
   * What was spent: the number of the call that reported it first, the seconds since, and the amounts. An amount below 0
   * takes back a part of what an earlier entry has reported.
   */
  readonly spent: readonly (readonly number[])[];
  /** What is needed now, all or nothing, and what is wanted ahead of use. */
  readonly first: readonly number[];
  readonly ahead: readonly number[];
  /** The seconds for which no process may send a request. */
  readonly block: number;
  readonly leaseSeconds: number;
  /** The seconds after a loss of data in which nothing is granted, because nodes report what they have spent. */
  readonly graceSeconds: number;
}

/** A log has at most so many entries; beyond it, entries are merged that are together below a part of the quota. */
const MAX_ENTRIES = 256;
/** A node that waits calls again within its lease's lifetime and so many seconds. */
const SPARE_SECONDS = 1;
/** More than sums of fractions are wrong by, as a share of a quota. */
const ROUNDING = 1e-9;

const BODY = `
local node, call = ARGV[2], cjson.decode(ARGV[3])
local text = redis.pcall('GET', KEYS[1])
if text and (type(text) == 'table' or string.sub(text, 1, 4) ~= 'rlq1') then
  return redis.error_reply('WRONGTYPE relay-limiter found a key under its prefix that is not its own')
end
local state = text and cmsgpack.unpack(string.sub(text, 5))
  or {last = now, blocked = 0, grace = 0, created = now, epoch = '', logs = {}, leases = {}, waiting = {}}
local logs, leases = state.logs, state.leases

-- The store's clock was set back: times of before move with it.
if state.last > now then
  local early = state.last - now
  if back and back > early then early = back end
  for _, name in ipairs({'blocked', 'grace', 'created'}) do state[name] = state[name] - early end
  for _, log in pairs(logs) do
    for at = 1, #log, 2 do log[at] = log[at] - early end
  end
  for _, list in ipairs({leases, state.waiting}) do
    for _, item in ipairs(list) do item.ends = item.ends - early end
  end
end
state.last = now

local mine
for _, lease in ipairs(leases) do
  if lease.node == node and lease.ends > now then mine = lease end
end
if mine and call.id <= mine.id then return {'stale'} end

-- A window of its own log continues the longest log of its unit.
local function nameOf(window) return string.format('%.17g', window.seconds) .. ' ' .. window.unit end
local function secondsOf(name) return tonumber(string.match(name, '^%S+')) end
local function unitOf(name) return string.match(name, '^%S+ (.*)$') end
local quotas = {}
for _, window in ipairs(call.windows) do
  local name = nameOf(window)
  quotas[name] = window.quota
  if not logs[name] then
    local longest
    for other in pairs(logs) do
      if unitOf(other) == window.unit and (not longest or secondsOf(other) > secondsOf(longest)) then longest = other end
    end
    logs[name] = longest and {unpack(logs[longest])} or {}
  end
end

-- What exceeds a quota (a cost above the quota of a short window) counts longer.
local function spend(unit, at, amount)
  for name, log in pairs(logs) do
    if unitOf(name) == unit then
      local time = at
      if quotas[name] and amount > quotas[name] then time = at + (amount / quotas[name] - 1) * secondsOf(name) end
      local index = #log + 1
      while index > 1 and log[index - 2] > time do index = index - 2 end
      table.insert(log, index, amount)
      table.insert(log, index, time)
    end
  end
end

for index = #leases, 1, -1 do
  local lease = leases[index]
  if lease.ends <= now then
    for unit, amount in pairs(lease.left) do
      if amount > 0 then spend(unit, lease.ends, amount) end
    end
    table.remove(leases, index)
  end
end

-- The state is another one than the node knows, or has gone back: data was lost.
local isOlder = call.known > 0 and (not mine or mine.id < call.known)
local isLost = isOlder or (call.epoch ~= '' and call.epoch ~= state.epoch)
if state.epoch == '' or (isOlder and call.epoch == state.epoch) then
  state.epoch = call.newEpoch
  state.created = now
end
if isLost then state.grace = math.max(state.grace, state.created + call.graceSeconds) end

local executed = mine and mine.id or 0
for _, entry in ipairs(call.spent) do
  if entry[1] > executed then
    for index, unit in ipairs(call.units) do
      local amount = entry[index + 2]
      if amount ~= 0 then spend(unit, now - entry[2], amount) end
    end
  end
end
if not mine then
  mine = {node = node}
  leases[#leases + 1] = mine
end
mine.id, mine.ends, mine.left = call.id, now + call.leaseSeconds, {}
if call.block > 0 then state.blocked = math.max(state.blocked, now + call.block) end

-- Entries that are over leave a log. A long log is merged: each entry under the time of a later one, and what was taken
-- back is taken from the next entry.
local longest = 0
for name, log in pairs(logs) do
  local seconds, kept = secondsOf(name), {}
  local least = #log > ${2 * MAX_ENTRIES} and quotas[name] and quotas[name] / ${MAX_ENTRIES / 2} or 0
  local debt = 0
  for at = 1, #log, 2 do
    local time, amount = log[at], log[at + 1]
    if time + seconds > now then
      if least > 0 then
        if amount < 0 then debt = debt - amount end
        local paid = math.min(debt, math.max(amount, 0))
        amount, debt = amount - paid, debt - paid
        if amount > 0 and kept[1] and kept[#kept] + amount <= least then
          amount = amount + table.remove(kept)
          table.remove(kept)
        end
      end
      if least == 0 or amount > 0 then
        kept[#kept + 1] = time
        kept[#kept + 1] = amount
      end
    end
  end
  logs[name] = (quotas[name] or kept[1]) and kept or nil
  longest = math.max(longest, seconds)
end

local function secondsUntilFree(window, log, missing)
  local events = {}
  for at = 1, #log, 2 do events[#events + 1] = {log[at], log[at + 1]} end
  for _, lease in ipairs(leases) do events[#events + 1] = {lease.ends, lease.left[window.unit] or 0} end
  table.sort(events, function(a, b) return a[1] < b[1] end)
  for _, event in ipairs(events) do
    missing = missing - event[2]
    if missing <= 0 then return event[1] + window.seconds - now end
  end
  return call.leaseSeconds
end

-- The line, without this node, and what the nodes before this one need.
local isBefore, others, line, before = true, 0, {}, {}
for _, waiter in ipairs(state.waiting) do
  if waiter.node == node then isBefore = false
  elseif waiter.ends > now then
    others = others + 1
    line[#line + 1] = waiter
    if isBefore then before[#before + 1] = waiter end
  end
end

local wait = math.max(0, state.blocked - now, state.grace - now)
local isNeeded, most = false, {}
for _, window in ipairs(call.windows) do
  local log = logs[nameOf(window)]
  local free = window.quota
  for at = 2, #log, 2 do free = free - log[at] end
  for _, lease in ipairs(leases) do free = free - (lease.left[window.unit] or 0) end
  -- A cost above the quota of a short window needs all of it.
  for _, waiter in ipairs(before) do free = free - math.min(waiter.need[window.unit] or 0, window.quota) end
  for index, unit in ipairs(call.units) do
    if unit == window.unit then
      local need = math.min(call.first[index], window.quota)
      if need > 0 then
        isNeeded = true
        if need - free > window.quota * ${ROUNDING} then
          wait = math.max(wait, secondsUntilFree(window, log, need - free))
        end
      end
      most[index] = math.min(most[index] or math.huge, (free - call.first[index]) / (1 + math.max(1, others)))
    end
  end
end
local reply = {'ok', '', '', state.epoch}
local need = {}
for index, unit in ipairs(call.units) do
  local granted = 0
  if wait == 0 and isNeeded then
    granted = call.first[index] + math.max(0, math.floor(math.min(call.ahead[index], most[index])))
    mine.left[unit] = granted
  end
  need[unit] = call.first[index]
  reply[index + 4] = string.format('%.17g', granted)
end
if wait > 0 and isNeeded then
  table.insert(line, #before + 1, {node = node, ends = now + call.leaseSeconds + ${SPARE_SECONDS}, need = need})
end
state.waiting = line
reply[2] = string.format('%.17g', wait)
reply[3] = string.format('%.17g', math.max(0, state.blocked - now))
local ttl = string.format('%.0f', math.min(1e14, (longest + call.leaseSeconds + 2) * 1000))
redis.call('SET', KEYS[1], 'rlq1' .. cmsgpack.pack(state), 'PX', ttl)
return reply`;

/** The script for one run of a server; see `createScript` of a limit. `readClock`: tests replace it. */
export function createQuotaScript(runId: string, readClock = READ_CLOCK): Script {
  const text = `-- ${runId}\n${readClock}\n${BEGIN}${BODY}\n`;
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

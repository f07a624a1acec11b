// A chat on socket.io as its guide teaches one: insert the message, send it to the room, call back. One transaction
// for each message, since that is what `await insert()` means. Environment: PORT, and STORE, which is the path of a
// SQLite file (WAL, synchronous=FULL) or the address of a PostgreSQL database. Prints a line once it listens.
'use strict';
const { createHmac } = require('node:crypto');
const { createServer } = require('node:http');
const { Server } = require('socket.io');

const KEY = 'benchmark';

function sqliteStore(file) {
  const database = require('better-sqlite3')(file);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec(`
    CREATE TABLE IF NOT EXISTS messages (
      id INTEGER PRIMARY KEY AUTOINCREMENT, client_offset TEXT UNIQUE, room TEXT, sender TEXT, content TEXT);
    CREATE INDEX IF NOT EXISTS messages_of_room ON messages (room, id);
  `);
  const insert = database.prepare(
    'INSERT INTO messages (client_offset, room, sender, content) VALUES (?, ?, ?, ?)');
  const select = database.prepare('SELECT id, sender, content FROM messages WHERE room = ? AND id > ? ORDER BY id');
  return {
    insert: (offset, room, sender, text) => insert.run(offset, room, sender, text).lastInsertRowid,
    since: (room, id) => select.all(room, id),
  };
}

async function postgresStore(address) {
  const pool = new (require('pg').Pool)({ connectionString: address, max: 10 });
  await pool.query(`
    CREATE TABLE IF NOT EXISTS messages (
      id BIGSERIAL PRIMARY KEY, client_offset TEXT UNIQUE, room TEXT, sender TEXT, content TEXT);
    CREATE INDEX IF NOT EXISTS messages_of_room ON messages (room, id);
  `);
  const insert = {
    name: 'insert',
    text: 'INSERT INTO messages (client_offset, room, sender, content) VALUES ($1, $2, $3, $4) RETURNING id',
  };
  const select = {
    name: 'select',
    text: 'SELECT id, sender, content FROM messages WHERE room = $1 AND id > $2 ORDER BY id',
  };
  return {
    insert: async (...values) => Number((await pool.query({ ...insert, values })).rows[0].id),
    since: async (...values) => (await pool.query({ ...select, values })).rows,
  };
}

async function main() {
  const address = process.env.STORE;
  const store = await (address.startsWith('postgresql:') ? postgresStore : sqliteStore)(address);
  const http = createServer();
  const io = new Server(http, { connectionStateRecovery: {} });

  io.use((socket, next) => {
    const { user, token } = socket.handshake.auth;
    const isGood = createHmac('sha256', KEY).update(String(user)).digest('hex') === token;
    next(isGood ? undefined : new Error('unauthorized'));
  });

  io.on('connection', async (socket) => {
    const { user, groups, last } = socket.handshake.auth;
    const own = `user:${user}`;
    socket.join([own, ...(groups ?? [])]);
    socket.on('send', async (room, text, offset, callback) => {
      const id = await store.insert(offset, room, user, text);
      io.to(room).emit('message', room, user, text, id);
      callback(id);
    });
    if (last !== undefined && !socket.recovered) {
      const missed = await store.since(own, last);
      for (const { id, sender, content } of missed) socket.emit('message', own, sender, content, id);
      socket.emit('caught-up', missed.length);
    }
  });

  const port = Number(process.env.PORT);
  http.listen({ port, host: '127.0.0.1', backlog: 4096 }, () => console.log(JSON.stringify({ port })));
}

main();

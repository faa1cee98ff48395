// Reads declaration files: which declarations a file exports, and which declarations of the package a declaration
// refers to. It knows the syntax that the compiler writes for this package, and throws at an export that it cannot find.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseSync } from 'vite';

/** A declaration by its file and its name there. */
export interface Declaration {
  readonly file: string;
  readonly name: string;
}

type Node = Readonly<Record<string, unknown>> & { readonly type: string };

/** A name of a file that another file declares; `name` is '*' for a namespace. */
interface Import {
  readonly from: string;
  readonly name: string;
}

interface File {
  /** The nodes of each declaration: a type and a value may have the same name. */
  readonly declared: Map<string, Node[]>;
  /** The other names in the file, by import. */
  readonly imported: Map<string, Import>;
  /** The exported names, with the local name or the file that has the declaration. */
  readonly exported: Map<string, string | Import>;
  /** The members that the file adds to the modules of other packages. */
  readonly augmentations: Node[];
}

/** Declaration files, each read once. */
export class Declarations {
  readonly #files = new Map<string, File>();

  /** The files that these files import, directly or not, and these files. */
  reachedFrom(entries: readonly string[]): string[] {
    const reached = new Set<string>();
    const visit = (file: string): void => {
      if (reached.has(file)) return;
      reached.add(file);
      const { imported, exported } = this.#file(file);
      for (const target of [...imported.values(), ...exported.values()]) {
        if (typeof target !== 'string' && isOwn(target.from)) visit(target.from);
      }
    };
    for (const entry of entries) visit(entry);
    return [...reached];
  }

  /** The exported names of a file, each with its declaration; without those of other packages. */
  exportsOf(file: string): Map<string, Declaration> {
    const names = [...this.#file(file).exported.keys()];
    return new Map(
      names.flatMap((name) => {
        const declaration = this.#exported(file, name);
        return declaration === undefined ? [] : [[name, declaration] as const];
      }),
    );
  }

  /** The declarations of the package that a declaration names. */
  namedBy({ file, name }: Declaration): Declaration[] {
    return this.#namedIn(file, this.#file(file).declared.get(name));
  }

  /** The declarations of the package that a file's additions to other packages name. */
  namedByAugmentations(file: string): Declaration[] {
    return this.#namedIn(file, this.#file(file).augmentations);
  }

  #namedIn(file: string, node: unknown): Declaration[] {
    return [...new Set(referencesIn(node))].flatMap((name) => this.#resolve(file, name) ?? []);
  }

  /** Undefined for a global, a type parameter and a declaration of another package. */
  #resolve(file: string, name: string): Declaration | undefined {
    const { declared, imported } = this.#file(file);
    if (declared.has(name)) return { file, name };
    const target = imported.get(name);
    return target && isOwn(target.from) ? this.#exported(target.from, target.name) : undefined;
  }

  #exported(file: string, name: string): Declaration | undefined {
    const target = this.#file(file).exported.get(name);
    if (target === undefined) throw new Error(`${file} must export ${name}`);
    if (typeof target === 'string') return this.#resolve(file, target);
    return isOwn(target.from) ? this.#exported(target.from, target.name) : undefined;
  }

  #file(path: string): File {
    const file = this.#files.get(path) ?? readFile(path);
    this.#files.set(path, file);
    return file;
  }
}

function isOwn(file: string): boolean {
  return file.endsWith('.d.ts');
}

function readFile(path: string): File {
  const { program, errors } = parseSync(path, readFileSync(path, 'utf8'), { lang: 'dts' });
  if (errors[0] !== undefined) throw new Error(`${path}: ${errors[0].message}`);
  const file: File = {
    declared: new Map(),
    imported: new Map(),
    exported: new Map(),
    augmentations: [],
  };
  for (const node of program.body as unknown as Node[]) readStatement(file, path, node);
  return file;
}

function readStatement(file: File, path: string, node: Node): void {
  const from = node['source'] ? targetOf(path, node['source'] as Node) : undefined;
  const specifiers = (node['specifiers'] ?? []) as Node[];
  if (node.type === 'ImportDeclaration') {
    for (const specifier of specifiers) {
      const name =
        specifier.type === 'ImportNamespaceSpecifier' ? '*' : nameOf(specifier['imported']);
      file.imported.set(nameOf(specifier['local']), { from: from as string, name });
    }
  } else if (node.type === 'ExportNamedDeclaration') {
    for (const { local, exported } of specifiers) {
      const name = nameOf(local);
      file.exported.set(nameOf(exported), from === undefined ? name : { from, name });
    }
    for (const name of declare(file, node['declaration'])) file.exported.set(name, name);
  } else if (node.type === 'ExportDefaultDeclaration') {
    const [name] = declare(file, node['declaration']);
    file.exported.set('default', name ?? nameOf(node['declaration']));
  } else if (node.type === 'ExportAllDeclaration') {
    throw new Error(`${path} must export names one by one`);
  } else if (node.type === 'TSModuleDeclaration') {
    file.augmentations.push(node);
  } else {
    declare(file, node);
  }
}

/** Adds a declaration and returns its names; none for an identifier. */
function declare(file: File, node: unknown): string[] {
  if (!isNode(node) || node.type === 'Identifier') return [];
  const ids = (node['declarations'] ?? [node]) as Node[];
  const names = ids.map(({ id }) => nameOf(id));
  for (const name of names) file.declared.set(name, [...(file.declared.get(name) ?? []), node]);
  return names;
}

function targetOf(path: string, { value }: Node): string {
  const name = String(value);
  return name.startsWith('.') ? join(dirname(path), name.replace(/\.js$/, '.d.ts')) : name;
}

/** The names that types, `typeof`, heritage clauses and computed keys below a node refer to. */
function* referencesIn(value: unknown): Generator<string> {
  if (Array.isArray(value)) {
    for (const item of value) yield* referencesIn(item);
  } else if (isNode(value)) {
    if (value.type === 'TSImportType') throw new Error('a declaration must import types by name');
    const { typeName, exprName, expression, superClass, computed, key } = value;
    for (const reference of [typeName, exprName, expression, superClass, computed && key]) {
      if (isNode(reference)) yield firstNameOf(reference);
    }
    for (const child of Object.values(value)) yield* referencesIn(child);
  }
}

/** The first name of a path such as `NodeJS.Timeout`. */
function firstNameOf(node: Node): string {
  const parent = node['left'] ?? node['object'];
  return isNode(parent) ? firstNameOf(parent) : nameOf(node);
}

function nameOf(node: unknown): string {
  return isNode(node) ? String(node['name'] ?? node['value']) : 'default';
}

function isNode(value: unknown): value is Node {
  return typeof (value as Node | null)?.type === 'string';
}
